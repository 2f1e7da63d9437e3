#pragma once
// A cluster that exists only as numbers: jobs come, are started, stopped and end as a scheduler
// says, hours in microseconds. For bench_scheduler, and for tests of what a scheduler does in the
// long run.

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "coordinator/scheduler/scheduler.h"

namespace fr {

struct TraceJob {
  std::int64_t arrival_ms = 0;
  std::string owner;
  int priority = 50;
  int workers = 1;
  int min_workers = 1;
  double seconds = 0;            // it takes, with all workers
  double predicted_seconds = 0;  // what the scheduler is told; negative: nothing
  std::vector<std::string> labels;
  bool preemptible = true;
};

struct SimulatedCluster {
  std::vector<NodeView> nodes;
  std::map<std::string, UserView> users;  // shares and limits; use is counted here
  std::int64_t half_life_ms = 604'800'000;
  double start_seconds = 60;              // of every attempt, before it makes progress
  double stop_seconds = 30;               // from being asked to stop to the end, without progress
  double checkpoint_seconds = 1800;       // between two checkpoints
  std::int64_t round_every_ms = 300'000;  // besides a round at every arrival and end
};

struct JobOutcome {
  std::int64_t first_start_ms = -1;  // never, in the time that was simulated
  std::int64_t end_ms = -1;
  double waited_seconds = 0;  // before its first start and between attempts
  int preemptions = 0;
  int resizes = 0;
};

struct SimulationResult {
  std::vector<JobOutcome> jobs;    // as in the trace
  std::vector<double> busy;        // part of all slots in use, hour by hour
  double useful_slot_seconds = 0;  // in which jobs made progress
  std::int64_t rounds = 0;
};

using SchedulerFunction = std::function<Decisions(const ClusterView&)>;

// From 0 until all jobs have ended, or until `until_ms`. REQUIRES: the trace is in order of
// arrival. Throws Error(kInternal) if the scheduler gives a slot away twice, or stops what does not
// run.
SimulationResult Simulate(const SimulatedCluster& cluster, const std::vector<TraceJob>& trace,
                          std::int64_t until_ms, const SchedulerFunction& scheduler);

}  // namespace fr
