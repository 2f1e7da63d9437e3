#pragma once
// Everything that outlives a process, in RocksDB: jobs, transitions, shard plans, checkpoint
// manifests, metrics. The coordinator keeps one for all jobs; a stand-alone fr-worker keeps
// one for its run.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "proto/checkpoint.pb.h"
#include "proto/metrics.pb.h"
#include "proto/record.pb.h"
#include "proto/shard_plan.pb.h"

namespace fr {

// Changes that become durable together or not at all. `job` is a job's number.
class StoreBatch {
 public:
  StoreBatch();
  ~StoreBatch();
  StoreBatch(StoreBatch&&) noexcept;
  StoreBatch& operator=(StoreBatch&&) noexcept;

  void PutJob(const JobRecord& record);  // by record.number()
  // `index`: 0 for the job's first transition, and so on.
  void PutTransition(std::int64_t job, std::int64_t index, const Transition& transition);
  void PutShardPlan(std::int64_t job, const ShardPlanProto& plan);           // by plan.generation()
  void PutCheckpoint(std::int64_t job, const CheckpointManifest& manifest);  // by manifest.step()
  void DeleteCheckpoint(std::int64_t job, std::int64_t step);
  // By name and step: the same point again replaces itself, and so does a step that a later
  // attempt trains again. Throws Error(kInvalidArgument) for a name that is empty or holds a zero
  // byte.
  void PutMetric(std::int64_t job, const MetricPoint& point);
  // submission_key -> job number, for idempotent submission.
  void PutSubmissionKey(const std::string& key, std::int64_t job);

 private:
  friend class RunStore;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Thread-safe.
class RunStore {
 public:
  // Opens or creates the database in `directory`. Throws Error(kUnavailable) when another process
  // holds it, naming the directory; Error(kDataLoss) when it is damaged; Error(kFailedPrecondition)
  // when it is of a later version or another program's; Error(kIo | kResourceExhausted).
  explicit RunStore(const std::filesystem::path& directory);
  ~RunStore();
  RunStore(const RunStore&) = delete;
  RunStore& operator=(const RunStore&) = delete;

  // Durable (synced) when it returns. Throws Error(kIo | kResourceExhausted); nothing of the
  // batch is then visible.
  void Commit(StoreBatch batch);

  // All of these throw Error(kDataLoss) for rows that are damaged, Error(kIo).
  std::vector<JobRecord> Jobs() const;  // ascending in number
  std::optional<JobRecord> Job(std::int64_t job) const;
  std::optional<std::int64_t> JobOfSubmissionKey(const std::string& key) const;
  std::vector<Transition> Transitions(std::int64_t job) const;          // in order
  std::vector<ShardPlanProto> ShardPlans(std::int64_t job) const;       // ascending generation
  std::vector<CheckpointManifest> Checkpoints(std::int64_t job) const;  // ascending step
  // Series with ascending steps, ordered by name; `names` empty: all; one that ends in '/'
  // ("shard/"): all that begin with it. Only steps > after_step; a series without any is left out.
  std::vector<MetricSeries> Metrics(std::int64_t job, const std::vector<std::string>& names,
                                    std::int64_t after_step) const;
  // The last point of every metric, ordered by name. Its cost does not grow with the series.
  std::vector<MetricPoint> LastPoints(std::int64_t job) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fr
