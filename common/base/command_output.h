#pragma once
// What another program prints.

#include <array>
#include <cstdio>
#include <string>

#include "common/base/error.h"

namespace fr {

struct CommandOutput {
  bool ended_well = false;  // exit code 0
  std::string text;
};

// Of `command`, which a shell runs to its end. Throws Error(kIo) where none can be started.
inline CommandOutput OutputOf(const std::string& command) {
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) throw Error(ErrorCode::kIo, "no process could be started: " + command);
  CommandOutput output;
  std::array<char, 4096> buffer;
  while (const std::size_t size = fread(buffer.data(), 1, buffer.size(), pipe)) {
    output.text.append(buffer.data(), size);
  }
  output.ended_well = pclose(pipe) == 0;
  return output;
}

}  // namespace fr
