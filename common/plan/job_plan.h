#pragma once
// What a job will need and how long it will take, before any worker runs. Predictions: memory comes
// from the network's graph and was checked against workers, time from a machine's rates and is
// right to perhaps a third. docs/planning.md says how well.

#include <cstdint>
#include <optional>
#include <vector>

#include "common/plan/memory_plan.h"
#include "common/plan/time_plan.h"
#include "common/sharding/shard_plan.h"
#include "proto/job.pb.h"
#include "proto/machine.pb.h"

namespace fr {

// What is known of the training set.
struct DataFacts {
  std::optional<std::int64_t> identities;
  std::optional<std::int64_t> images;
};

struct JobPlan {
  int workers = 1;
  std::int64_t total_batch = 0;  // images of a step
  WorkerShare share;             // of the worker that has most

  // Nothing where the number of images is not known.
  std::optional<std::int64_t> steps_per_epoch;
  std::optional<std::int64_t> steps;  // of the whole job
  bool cut_by_max_steps = false;

  bool has_head = true;             // triplets have none
  std::optional<ShardPlan> shards;  // nothing without a head, or with unknown identities
  std::int64_t head_row_bytes = 0;  // an identity's weights and optimizer state

  std::vector<MemoryItem> memory;      // of one worker on its node
  std::vector<MemoryItem> gpu_memory;  // of its GPU; empty: resources.device does not say gpu
  TrafficPlan traffic;
  WorkPlan work;
  TimePlan time;
  std::optional<double> epoch_seconds;
  std::optional<double> job_seconds;  // without validations and checkpoints
};

// What a worker of `workers` has at most; `facts` without identities: no head.
WorkerShare ShareOfWorker(const JobSpec& spec, const DataFacts& facts, int workers);

// `spec` as LoadJobConfig gives it, without mistakes. With unknown identities there is no head in
// the plan. Throws Error(kInvalidArgument) for a network that cannot be built.
JobPlan PlanJob(const JobSpec& spec, const DataFacts& facts, const MachineModel& machine);

}  // namespace fr
