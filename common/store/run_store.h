#pragma once
// Everything that outlives a process, in RocksDB: jobs, transitions, shard plans, checkpoint
// manifests, metrics, nodes, users. The coordinator keeps one for all jobs; a stand-alone fr-worker
// keeps one for its run. docs/store.md shows the layout.

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
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

  // By record.number(), together with what lists and counts of jobs need to know of it. The job's
  // file has a row of its own, which changes of the job do not write again. Throws Error(kInternal)
  // for a record that has `yaml`, or no number.
  void PutJob(const JobRecord& record);
  void PutJobFile(std::int64_t job, const std::string& yaml);
  // `index`: 0 for the job's first transition, and so on; JobRecord.transitions says how many there
  // are.
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
  void PutNode(const NodeRecord& node);  // by node.name()
  void PutUser(const UserRecord& user);  // by user.name()

 private:
  friend class RunStore;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Which jobs, latest first.
struct JobFilter {
  std::string owner;                   // empty: anybody's
  std::set<JobState> states;           // empty: any
  std::optional<std::int64_t> before;  // only numbers below
  int limit = 100;                     // so many at most; 0 or less: none
};

struct JobPage {
  std::vector<JobRecord> jobs;
  bool more = false;  // earlier ones fit the filter, too
};

// Thread-safe. Whatever is read of a job lacks its `yaml`, which is JobFile.
class RunStore {
 public:
  // Opens or creates the database in `directory`; one of an earlier version is brought up to this
  // one, at once or, whatever happens meanwhile, not at all. Throws Error(kUnavailable) when
  // another process holds it, naming the directory; Error(kDataLoss) when it is damaged;
  // Error(kFailedPrecondition) when it is of a later version or another program's; Error(kIo |
  // kResourceExhausted).
  explicit RunStore(const std::filesystem::path& directory);
  ~RunStore();
  RunStore(const RunStore&) = delete;
  RunStore& operator=(const RunStore&) = delete;

  // Durable (synced) when it returns. Threads that commit at a time share one sync, so that
  // together they get through many times as much as one alone; changes of the same job are for the
  // caller to bring in order. Throws Error(kIo | kResourceExhausted); nothing of the batch is then
  // visible. `label` names the fail points "<label>: before commit" and "<label>: after commit"
  // (common/base/fail_point.h).
  void Commit(StoreBatch batch, std::string_view label = "store");

  // All of these throw Error(kDataLoss) for rows that are damaged, Error(kIo).
  std::optional<JobRecord> Job(std::int64_t job) const;
  std::optional<std::string> JobFile(std::int64_t job) const;
  // Those that have not ended (COMPLETED, FAILED, CANCELLED), and those that have but still have a
  // `launch`: their processes may be there. Ascending in number. Reads no row of other jobs.
  std::vector<JobRecord> LiveJobs() const;
  JobPage Jobs(const JobFilter& filter) const;
  // How many jobs are in each state; a state of none is missing. Costs no reading.
  std::map<JobState, std::int64_t> CountJobs() const;
  std::int64_t LastJobNumber() const;  // 0: there is none yet
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
  std::vector<NodeRecord> Nodes() const;  // ordered by name
  std::vector<UserRecord> Users() const;  // ordered by name

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fr
