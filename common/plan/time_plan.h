#pragma once
// What a job's workers compute and send in a step, and how long that takes on a given machine.

#include <cstdint>

#include "common/networks/graph.h"
#include "common/plan/memory_plan.h"
#include "proto/job.pb.h"
#include "proto/machine.pb.h"

namespace fr {

// Bytes that one worker sends in a step; as many come in. All-reduces are rings: each of n workers
// sends 2 (n - 1) / n of the data.
struct TrafficPlan {
  std::int64_t gradients = 0;            // the backbone's, all-reduce
  std::int64_t gradient_messages = 0;    // of communication.bucket_mb
  std::int64_t embeddings = 0;           // all-gather, with norms and labels
  std::int64_t softmax = 0;              // targets, maxima, sums: all-reduces
  std::int64_t embedding_gradients = 0;  // reduce-scatter
  std::int64_t batch_norms = 0;          // model.batch_norm: global
  std::int64_t other_messages = 0;       // all but those of gradients
  std::int64_t other() const { return embeddings + softmax + embedding_gradients + batch_norms; }
  std::int64_t total() const { return gradients + other(); }
};

TrafficPlan PlanTraffic(const JobSpec& spec, const Graph& graph, const WorkerShare& share);

// Multiply-adds of one worker in a step.
struct WorkPlan {
  double backbone = 0;  // forward, backward, and forward again with `recompute`
  double head = 0;      // four products, of the identities that take part
};

WorkPlan PlanWork(const JobSpec& spec, const Graph& graph, const WorkerShare& share);

// Seconds of a step; they add up to `step` with what is hidden taken off.
struct TimePlan {
  double forward = 0;  // with the second one of `recompute`
  double head = 0;
  double backward = 0;
  double update = 0;
  double gradients = 0;  // their all-reduce
  double hidden = 0;     // of that, behind the backward pass
  double messages = 0;   // all other communication
  double loader = 0;     // what decoding takes longer than all the rest
  double step = 0;
};

TimePlan PlanTime(const JobSpec& spec, const Graph& graph, const WorkerShare& share,
                  const MachineModel& machine);

}  // namespace fr
