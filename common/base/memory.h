#pragma once
// Memory of this machine, and of this process.

#include <cstdint>

namespace fr {

// Bytes that new work can take without swapping (MemAvailable of /proc/meminfo). Throws Error(kIo).
std::int64_t AvailableMemoryBytes();

// The most that this process has had in physical memory so far (VmHWM of /proc/self/status). Throws
// Error(kIo).
std::int64_t PeakResidentBytes();

}  // namespace fr
