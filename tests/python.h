#pragma once
// Asking an independent implementation: a short Python program, its answer as text.

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <utility>

#include "common/base/command_output.h"

namespace fr {

// Runs `program` with `directory` as working directory; what it prints is returned. Throws if it
// fails: its message is on standard error.
inline std::string RunPython(const std::filesystem::path& directory, const std::string& program,
                             const std::string& interpreter = FR_PYTHON) {
  std::ofstream(directory / "program.py") << program;
  const std::string command = "cd '" + directory.string() + "' && '" + interpreter + "' program.py";
  auto [ended_well, text] = OutputOf(command);
  if (!ended_well) throw std::runtime_error("the reference program failed");
  return std::move(text);
}

}  // namespace fr
