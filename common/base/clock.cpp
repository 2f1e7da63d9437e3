#include "common/base/clock.h"

#include <chrono>

namespace fr {
namespace {

template <typename Clock>
std::int64_t Millis() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now().time_since_epoch())
      .count();
}

}  // namespace

std::int64_t UnixMillis() { return Millis<std::chrono::system_clock>(); }
std::int64_t SteadyMillis() { return Millis<std::chrono::steady_clock>(); }

std::int64_t SteadyNanos() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace fr
