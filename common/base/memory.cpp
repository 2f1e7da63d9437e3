#include "common/base/memory.h"

#include <cstdlib>
#include <fstream>
#include <string>

#include "common/base/error.h"

namespace fr {

namespace {

// Of a line "KEY:   123 kB".
std::int64_t BytesOf(const std::string& file, const std::string& key) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(key)) return std::strtoll(line.c_str() + key.size(), nullptr, 10) * 1024;
  }
  throw Error(ErrorCode::kIo, file + ": no " + key + " there");
}

}  // namespace

std::int64_t AvailableMemoryBytes() { return BytesOf("/proc/meminfo", "MemAvailable:"); }

std::int64_t PeakResidentBytes() { return BytesOf("/proc/self/status", "VmHWM:"); }

}  // namespace fr
