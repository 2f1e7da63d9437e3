#pragma once
// The coordinator at one moment, for who watches it from outside.

#include <cstdint>
#include <map>
#include <vector>

#include "proto/metrics.pb.h"
#include "proto/record.pb.h"
#include "proto/rpc.pb.h"

namespace fr {

struct JobFigures {
  JobRecord record;
  std::vector<MetricPoint> latest;  // the last reported value of every metric, ordered by name
};

struct Snapshot {
  std::int64_t started_ms = 0;                     // of this process
  std::map<JobState, std::int64_t> jobs_by_state;  // those without jobs are left out
  std::vector<NodeStatus> nodes;
  // Jobs that have been started and have not ended, or ended a short while ago, by number.
  std::vector<JobFigures> jobs;
};

}  // namespace fr
