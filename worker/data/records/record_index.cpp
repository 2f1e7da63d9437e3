#include "worker/data/records/record_index.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/mapped_file.h"

namespace fr {

std::vector<IndexEntry> ReadIndex(const std::filesystem::path& path) {
  const MappedFile file(path, true);
  return ParseIndex(file.bytes(), path);
}

std::vector<IndexEntry> ParseIndex(std::string_view text, const std::filesystem::path& path) {
  std::vector<IndexEntry> entries;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    const char* line_end = std::find(at, end, '\n');
    IndexEntry entry;
    const auto [tab, key_error] = std::from_chars(at, line_end, entry.key);
    const bool has_key = key_error == std::errc() && tab != line_end && *tab == '\t';
    const auto [rest, error] = has_key ? std::from_chars(tab + 1, line_end, entry.offset)
                                       : std::from_chars_result{at, std::errc::invalid_argument};
    if (error != std::errc() || (rest != line_end && *rest != '\r')) {
      throw Error(ErrorCode::kDataLoss,
                  fmt::format("{}:{}: is no 'key<TAB>offset': the file is truncated or damaged; "
                              "copy it again",
                              path.string(), entries.size() + 1));
    }
    entries.push_back(entry);
    at = line_end == end ? end : line_end + 1;
  }
  return entries;
}

}  // namespace fr
