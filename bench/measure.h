#pragma once
// Seconds, the middle of several, and memory.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <vector>

#include "common/base/memory.h"

namespace fr {

using Clock = std::chrono::steady_clock;

inline double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

inline double Seconds(const std::function<void()>& work) {
  const Clock::time_point begin = Clock::now();
  work();
  return SecondsSince(begin);
}

// The most that this process has had in memory so far.
inline double PeakGibibytes() {
  return static_cast<double>(PeakResidentBytes()) / (std::int64_t{1} << 30);
}

// REQUIRES: not empty.
inline double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace fr
