#pragma once
// The coordinator at one moment, for who watches it from outside.

#include <cstdint>
#include <map>
#include <vector>

#include "proto/metrics.pb.h"
#include "proto/record.pb.h"
#include "proto/rpc.pb.h"

namespace fr {

// So long a job that has ended is part of snapshots: whoever looks once a minute sees its end, and
// the number of jobs in a snapshot stays bounded.
inline constexpr std::int64_t kShownAfterEndMs = 600'000;

struct JobFigures {
  JobRecord record;
  std::vector<MetricPoint> latest;  // the last reported value of every metric, ordered by name
};

// Jobs that wait for slots.
struct QueueFigures {
  std::int64_t jobs = 0;
  double wait_seconds = 0;     // of all of them together
  double longest_seconds = 0;  // of the one that has waited longest
};

struct Snapshot {
  std::int64_t started_ms = 0;                     // of this process
  std::map<JobState, std::int64_t> jobs_by_state;  // those without jobs are left out
  std::vector<NodeStatus> nodes;
  std::vector<UserStatus> users;
  QueueFigures queue;
  // Jobs that have been started and have not ended, or ended a short while ago, by number.
  std::vector<JobFigures> jobs;
};

}  // namespace fr
