#pragma once
// Time: in milliseconds, but for what is measured.

#include <cstdint>

namespace fr {

// Milliseconds since 1970, for what people read.
std::int64_t UnixMillis();

// Milliseconds of a clock that never jumps, for deadlines and rates.
std::int64_t SteadyMillis();

// The same clock in nanoseconds, for measurements.
std::int64_t SteadyNanos();

}  // namespace fr
