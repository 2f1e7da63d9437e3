#include "common/base/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace fr {

void ParallelFor(std::int64_t count, int threads, const std::function<void(std::int64_t)>& body) {
  std::atomic<std::int64_t> next = 0;
  std::mutex mutex;
  std::exception_ptr failure;
  const auto work = [&] {
    for (std::int64_t i = next++; i < count; i = next++) {
      try {
        body(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
        next = count;
      }
    }
  };
  {
    std::vector<std::jthread> helpers;
    const std::int64_t wanted = std::min<std::int64_t>(threads, count);
    for (std::int64_t i = 1; i < wanted; ++i) helpers.emplace_back(work);
    work();
  }
  if (failure) std::rethrow_exception(failure);
}

void ParallelFor(std::int64_t count, int threads, std::int64_t at_a_time, const WorkReport& report,
                 const std::function<void(std::int64_t)>& body) {
  for (std::int64_t done = 0; done < count; done += at_a_time) {
    report.progress(done, count);
    ParallelFor(std::min(at_a_time, count - done), threads,
                [&](std::int64_t i) { body(done + i); });
  }
  report.progress(count, count);
}

}  // namespace fr
