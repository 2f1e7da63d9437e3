#include "common/config/set_layout.h"

#include "common/base/file.h"

namespace fr {

namespace fs = std::filesystem;

bool IsTarName(const fs::path& path) { return LowerExtension(path) == ".tar"; }

std::optional<SetLayout> FindSetLayout(const fs::path& path, std::error_code* error) {
  if (IsTarName(path) && fs::is_regular_file(path, *error)) return SetLayout::kShards;
  for (const std::string_view file : kRecordSetFiles) {
    if (fs::exists(path / file, *error)) return SetLayout::kRecords;
  }
  bool has_folder = false;
  fs::directory_iterator entry(path, *error);
  for (; !*error && entry != fs::directory_iterator(); entry.increment(*error)) {
    if (IsTarName(entry->path())) return SetLayout::kShards;
    std::error_code ignored;
    has_folder = has_folder || entry->is_directory(ignored);
  }
  return has_folder ? std::optional(SetLayout::kFolder) : std::nullopt;
}

}  // namespace fr
