#pragma once
// Waiting for a condition, with a deadline: never for a time.

#include <chrono>
#include <functional>
#include <thread>

namespace fr {

// Whether `condition` came true within a minute.
inline bool WaitFor(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // between two looks
  }
  return true;
}

}  // namespace fr
