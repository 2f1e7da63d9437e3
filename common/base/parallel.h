#pragma once
// A loop over several threads.

#include <cstdint>
#include <functional>

#include "common/base/work_report.h"

namespace fr {

// Calls body(i) for every i in [0, count), on up to `threads` threads, in no particular order, and
// returns when all are done. The first exception ends the loop early and is thrown here.
void ParallelFor(std::int64_t count, int threads, const std::function<void(std::int64_t)>& body);

// The same, `at_a_time` at a time: in between, the report hears how far it is.
void ParallelFor(std::int64_t count, int threads, std::int64_t at_a_time, const WorkReport& report,
                 const std::function<void(std::int64_t)>& body);

}  // namespace fr
