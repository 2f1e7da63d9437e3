#pragma once
// What the curves say of the steps since the last point.

#include <cstdint>
#include <vector>

#include "proto/job.pb.h"
#include "proto/metrics.pb.h"
#include "worker/heads/head.h"
#include "worker/telemetry/timeline.h"

namespace fr {

class Communicator;

// One optimizer step: sums and means over its parts.
struct StepOutcome {
  HeadStepResult head;  // without embedding_gradients
  double gradient_norm = 0;
  bool skipped = false;  // not applied, for a value was not finite; the rest then says nothing
};

// What differs by rank, of this rank and since the last point (the peak: since the start).
struct RankReport {
  PhaseTimes phase_ms{};
  double wait_ms = 0;      // for the loader
  double bad_records = 0;  // since the start
  double peak_memory_bytes = 0;
  double gpu_memory_bytes = 0;  // GpuMemory::peak_held_bytes; 0 without a GPU
  bool yield_asked = false;     // of rank 0: the coordinator wants the job to stop at a checkpoint
};

class Interval {
 public:
  void Add(const StepOutcome& step);

  // What a point is made of, the same on every rank but for `points`.
  struct Summary {
    double loss = 0;                  // mean of the steps that were applied
    double step_ms = 0;               // mean of all steps
    bool yield_asked = false;         // of rank 0
    std::vector<MetricPoint> points;  // on rank 0
  };

  // Curves of the steps since the last call, at `step`; those of the schedule and of the position
  // in the data are not among them. Collective.
  Summary Take(const JobSpec& spec, std::int64_t step, const RankReport& own, Communicator& comm);

 private:
  std::int64_t steps_ = 0;
  std::int64_t skipped_ = 0;
  std::int64_t skipped_before_ = 0;  // in earlier intervals
  double loss_ = 0;
  double accuracy_ = 0;
  double gradient_norm_ = 0;
  double dropped_mass_ = 0;  // the largest
  double skipped_share_ = 0;
  double own_targets_ = 0;
  double active_triplets_ = 0;
  double active_share_ = 0;
};

}  // namespace fr
