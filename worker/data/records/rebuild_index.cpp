#include "worker/data/records/rebuild_index.h"

#include <algorithm>
#include <iterator>
#include <string>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "worker/data/records/record_file.h"
#include "worker/data/records/record_layout.h"

namespace fr {

namespace fs = std::filesystem;

namespace {

// Whether the ids of the headers are 0, 1, 2, ... in any order.
bool IdsAreKeys(const std::vector<IndexEntry>& entries) {
  std::vector<bool> seen(entries.size(), false);
  for (const IndexEntry& entry : entries) {
    if (entry.key >= seen.size() || seen[entry.key]) return false;
    seen[entry.key] = true;
  }
  return true;
}

}  // namespace

std::vector<IndexEntry> RebuildIndex(const fs::path& rec) {
  const RecordFile file(rec);
  std::vector<IndexEntry> entries;  // with the ids as keys
  ImageRecord record;
  std::size_t without_image = 0;
  for (std::uint64_t offset = 0; offset < file.size_bytes();) {
    const std::uint64_t end = file.Read(offset, &record);
    entries.push_back({record.id, offset});
    if (record.image.empty()) ++without_image;
    offset = end;
  }
  if (entries.empty()) {
    throw Error(ErrorCode::kDataLoss, fmt::format("{}: is empty", rec.string()));
  }
  if (IdsAreKeys(entries)) {
    std::sort(entries.begin(), entries.end(),
              [](const IndexEntry& a, const IndexEntry& b) { return a.key < b.key; });
    return entries;
  }
  file.Read(0, &record);
  const RecordLayout layout = LayoutOf(record, entries.size(), rec);
  const std::size_t expected = entries.size() - (layout.images_end - layout.images_begin);
  if (without_image != expected) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: the ids of its records are no keys, and in the order of the file "
                            "{} of them should have no image, but {} have none: get the train.idx "
                            "that belongs to it",
                            rec.string(), expected, without_image));
  }
  for (std::size_t i = 0; i < entries.size(); ++i) entries[i].key = i;
  return entries;
}

void WriteIndex(const fs::path& path, const std::vector<IndexEntry>& entries) {
  std::string text;
  for (const IndexEntry& entry : entries) {
    fmt::format_to(std::back_inserter(text), "{}\t{}\n", entry.key, entry.offset);
  }
  WriteFileAtomically(path, text);
}

}  // namespace fr
