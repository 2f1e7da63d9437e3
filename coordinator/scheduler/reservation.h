#pragma once
// What is set aside for the first job that cannot start, so that those which go before it do not
// put it off.

#include <cstdint>
#include <optional>
#include <vector>

#include "coordinator/scheduler/cluster.h"
#include "coordinator/scheduler/placement.h"
#include "coordinator/scheduler/queue.h"

namespace fr::scheduling {

// For so long a job is the first of those that wait on trust in predictions; then nothing that
// could delay it is started any more. Likewise a job may wait so long for its owner's limit while
// smaller jobs of the same owner go before it.
inline constexpr std::int64_t kPatienceMs = std::int64_t{4} * 3600 * 1000;

struct Reservation {
  const Job* first = nullptr;
  int workers = 0;  // the fewest with which it can start
  // When it is expected to; nothing if the ends of the jobs in its way are not known.
  std::optional<std::int64_t> start_ms;
  bool trusted = true;  // what is predicted to end before may still go first
  // What jobs that go on beyond start_ms may use, on each node; more than is free now where
  // something will become free until then.
  Free beside;
};

// `free`: now. `coming`: what is free once all have ended that have been asked to.
Reservation Reserve(const Job& first, int workers, const Queue& queue, const Cluster& cluster,
                    const Free& free, const Free& coming);

}  // namespace fr::scheduling
