#pragma once
// Tar shards for tests: the files of samples, in the order in which they are named.

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "worker/data/shards/tar_writer.h"

namespace fr {

inline void WriteTar(const std::filesystem::path& path,
                     const std::vector<std::pair<std::string, std::string>>& files) {
  std::filesystem::create_directories(path.parent_path());
  TarWriter writer(path);
  for (const auto& [name, content] : files) writer.Add(name, content);
  writer.Finish();
}

}  // namespace fr
