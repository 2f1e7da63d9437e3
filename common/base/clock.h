#pragma once
// Time, in one unit: milliseconds.

#include <cstdint>

namespace fr {

// Milliseconds since 1970, for what people read.
std::int64_t UnixMillis();

// Milliseconds of a clock that never jumps, for deadlines and rates.
std::int64_t SteadyMillis();

}  // namespace fr
