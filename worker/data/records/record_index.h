#pragma once
// The index of a RecordIO file, train.idx: text, one `key<TAB>byte-offset` a line.

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

namespace fr {

// One line of train.idx.
struct IndexEntry {
  std::uint64_t key = 0;
  std::uint64_t offset = 0;

  bool operator==(const IndexEntry&) const = default;
};

// All lines, in their order. Throws Error(kNotFound | kIo), Error(kDataLoss) naming the line that
// is no `key<TAB>offset`.
std::vector<IndexEntry> ReadIndex(const std::filesystem::path& path);

// The same of a text in memory; `path` is named in errors.
std::vector<IndexEntry> ParseIndex(std::string_view text, const std::filesystem::path& path);

}  // namespace fr
