#pragma once
// A shell script in mpirun's place: what the launcher starts, without workers.

#include <filesystem>
#include <fstream>
#include <string>

namespace fr {

// `body` sees mpirun's arguments as "$@". Returns the script's path.
inline std::string WriteFakeMpirun(const std::filesystem::path& directory,
                                   const std::string& body) {
  const std::filesystem::path path = directory / "mpirun";
  std::ofstream(path) << "#!/bin/sh\n" << body << "\n";
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  return path.string();
}

}  // namespace fr
