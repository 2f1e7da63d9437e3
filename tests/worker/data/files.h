#pragma once
// All files of a directory, to compare two of them.

#include <filesystem>
#include <map>
#include <string>

#include "common/base/file.h"

namespace fr {

// Bytes by path within `directory`, in its subdirectories too.
inline std::map<std::string, std::string> FilesIn(const std::filesystem::path& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file()) continue;
    files[std::filesystem::relative(entry.path(), directory).string()] = ReadFile(entry.path());
  }
  return files;
}

}  // namespace fr
