#pragma once
// Rank 0's link to whoever keeps the run: the coordinator, or a database in the run directory.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/sharding/shard_plan.h"
#include "proto/checkpoint.pb.h"
#include "proto/job.pb.h"
#include "proto/metrics.pb.h"
#include "proto/rpc.pb.h"

namespace fr {

// What rank 0 is told before it starts.
struct Assignment {
  JobSpec spec;
  std::string run_dir;
  // Every committed checkpoint, latest first: a damaged one is passed over for the one before.
  std::vector<CheckpointManifest> resume_from;
};

// Used by one thread.
class RunLink {
 public:
  virtual ~RunLink() = default;

  virtual Assignment Begin(int world_size) = 0;
  virtual ShardPlan Plan(std::int64_t num_identities, std::int64_t bytes_per_identity,
                         const std::vector<std::int64_t>& capacity_bytes) = 0;

  // These return at once and never fail for want of a listener: what could not be delivered is
  // kept, in order, and tried again. The one exception: Error(kFailedPrecondition) once the
  // coordinator has said that this attempt is over.
  virtual void Report(const std::vector<MetricPoint>& points, const Progress& progress) = 0;
  virtual void CommitCheckpoint(const CheckpointManifest& manifest) = 0;

  // Whether the coordinator wants the job to make a checkpoint and end, with the words YIELDED.
  virtual bool YieldAsked() { return false; }

  // The last words; returns once everything is delivered. Error(kUnavailable) if that
  // cannot be had within `deadline_ms`.
  virtual void Finish(WorkerOutcome outcome, const std::string& reason,
                      std::int64_t deadline_ms) = 0;
};

// Over the RPC; a thread of its own delivers. Begin and Plan wait for the coordinator up to
// `patience_ms` (it may be restarting), then throw Error(kUnavailable).
std::unique_ptr<RunLink> MakeCoordinatorLink(const std::string& address, const std::string& job_id,
                                             int attempt, std::int64_t patience_ms);

// Stand-alone: a RunStore at <run_dir>/store, job number 1. Continues from the checkpoints
// committed there, and applies checkpoint.keep.
std::unique_ptr<RunLink> MakeLocalLink(const JobSpec& spec, const std::string& run_dir);

}  // namespace fr
