#pragma once
// Memory of this machine.

#include <cstdint>

namespace fr {

// Bytes that new work can take without swapping (MemAvailable of /proc/meminfo). Throws Error(kIo).
std::int64_t AvailableMemoryBytes();

}  // namespace fr
