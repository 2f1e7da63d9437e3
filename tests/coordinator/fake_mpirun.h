#pragma once
// A shell script in mpirun's place: what the launcher starts, without workers.

#include <filesystem>
#include <fstream>
#include <string>

namespace fr {

// `body` sees mpirun's arguments as "$@". Returns the script's path. A script already there is
// replaced, not rewritten: a launch may be about to execute it, and a file open for writing
// cannot be executed ("Text file busy").
inline std::string WriteFakeMpirun(const std::filesystem::path& directory,
                                   const std::string& body) {
  const std::filesystem::path path = directory / "mpirun";
  const std::filesystem::path fresh = directory / "mpirun.new";
  std::ofstream(fresh) << "#!/bin/sh\n" << body << "\n";
  std::filesystem::permissions(fresh, std::filesystem::perms::owner_all);
  std::filesystem::rename(fresh, path);
  return path.string();
}

}  // namespace fr
