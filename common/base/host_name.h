#pragma once
// What this machine calls itself.

#include <string>

#include <unistd.h>

namespace fr {

// As gethostname says, cut after 255 bytes.
inline std::string HostName() {
  char name[256] = {};
  gethostname(name, sizeof(name) - 1);
  return name;
}

}  // namespace fr
