#pragma once
// Asking an independent implementation: a short Python program, its answer as text.

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

namespace fr {

// Runs `program` with `directory` as working directory; what it prints is returned. Throws if it
// fails: its message is on standard error.
inline std::string RunPython(const std::filesystem::path& directory, const std::string& program,
                             const std::string& interpreter = FR_PYTHON) {
  std::ofstream(directory / "program.py") << program;
  const std::string command = "cd '" + directory.string() + "' && '" + interpreter + "' program.py";
  FILE* pipe = popen(command.c_str(), "r");
  std::string text;
  std::array<char, 4096> buffer;
  while (const std::size_t size = fread(buffer.data(), 1, buffer.size(), pipe)) {
    text.append(buffer.data(), size);
  }
  if (pclose(pipe) != 0) throw std::runtime_error("the reference program failed");
  return text;
}

}  // namespace fr
