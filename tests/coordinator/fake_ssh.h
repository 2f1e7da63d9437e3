#pragma once
// A script in ssh's place: every host is this machine, and those with a file DIRECTORY/HOST.down
// do not answer.

#include <filesystem>
#include <fstream>
#include <string>

namespace fr {

// Returns the script's path.
inline std::string WriteFakeSsh(const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / "reach";
  std::ofstream(path) << "#!/bin/sh\nhost=$1; shift\necho \"$host\" >>\"" << directory.string()
                      << "/asked\"\nif [ -e \"" << directory.string()
                      << "/$host.down\" ]; then\n"
                         "  echo \"ssh: connect to host $host port 22: No route to host\" >&2\n"
                         "  exit 255\nfi\necho 'Welcome to the machine.'\nexec \"$@\"\n";
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  return path.string();
}

}  // namespace fr
