#pragma once
// identities.txt beside train.rec: the name behind each label, one `label<TAB>name` a line.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace fr {

inline constexpr const char* kIdentityNamesFile = "identities.txt";

// One line, with its end. Control characters in `name` become spaces.
std::string IdentityNameLine(std::int64_t label, std::string_view name);

// The name of every label in [0, num_identities), from `directory`/identities.txt; empty if that is
// not there. Throws Error(kDataLoss), naming the line, unless labels are 0, 1, 2, ... in order, and
// for another number of them; Error(kIo).
std::vector<std::string> ReadIdentityNames(const std::filesystem::path& directory,
                                           std::int64_t num_identities);

// `name` as one component of a path, on any file system: what is unsafe there (separators, control
// characters, a leading dot, too many bytes) becomes %XX, and % itself does, so that different
// names stay different.
std::string SafeFileName(std::string_view name);

}  // namespace fr
