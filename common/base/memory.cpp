#include "common/base/memory.h"

#include <fstream>
#include <string>

#include "common/base/error.h"

namespace fr {

std::int64_t AvailableMemoryBytes() {
  std::ifstream meminfo("/proc/meminfo");
  std::string key;
  std::int64_t kib = 0;
  for (std::string line; meminfo >> key >> kib && std::getline(meminfo, line);) {
    if (key == "MemAvailable:") return kib * 1024;
  }
  throw Error(ErrorCode::kIo, "/proc/meminfo: no MemAvailable there");
}

}  // namespace fr
