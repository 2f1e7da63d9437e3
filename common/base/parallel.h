#pragma once
// A loop over several threads.

#include <cstdint>
#include <functional>

namespace fr {

// Calls body(i) for every i in [0, count), on up to `threads` threads, in no particular order, and
// returns when all are done. The first exception ends the loop early and is thrown here.
void ParallelFor(std::int64_t count, int threads, const std::function<void(std::int64_t)>& body);

}  // namespace fr
