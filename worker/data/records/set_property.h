#pragma once
// `property`, beside train.rec: one line, "85742,112,112".

#include <cstdint>
#include <filesystem>
#include <string_view>

namespace fr {

struct SetProperty {
  std::int64_t num_identities = 0;
  int height = 0;  // pixels
  int width = 0;
};

// Further fields, blanks and line ends, which real sets have, are passed over. Throws
// Error(kNotFound | kIo), Error(kDataLoss) unless it begins with three positive numbers.
SetProperty ReadProperty(const std::filesystem::path& path);

// The same of a text in memory; `path` is named in errors.
SetProperty ParseProperty(std::string_view text, const std::filesystem::path& path);

}  // namespace fr
