#pragma once
// The coordinator's jobs: those that live are in memory, all of them in the store.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/store/run_store.h"
#include "proto/record.pb.h"

namespace fr {

// A job, and what need not survive a restart. Times are of the steady clock.
struct Job {
  JobRecord record;
  std::int64_t last_step_ms = 0;        // the attempt's start or its last new step
  std::int64_t last_checkpoint_ms = 0;  // the attempt's start or its last checkpoint
  std::int64_t stop_asked_ms = 0;       // when the attempt was seen to outlive its time; 0: not
  bool ends_by_itself = false;          // its workers have said their last words
  std::string launch_note;              // what the launcher says of the attempt: why it is queued
  // The last reported point of every metric, by name; absent until a snapshot needs it.
  std::optional<std::map<std::string, MetricPoint>> latest;
};

// "job-12"
std::string JobId(std::int64_t number);

// Changes of jobs that become durable, and then real, together.
class ChangeSet {
 public:
  // The job as it will be. The reference stays valid.
  JobRecord& Edit(Job& job);
  // Throws Error(kInternal) for a change of state that job_state.h does not allow.
  void To(Job& job, JobState state, const std::string& reason);
  bool empty() const { return edits_.empty(); }

  StoreBatch batch;  // further rows that belong to the changes

 private:
  friend class JobTable;
  struct Edited {
    Job* job = nullptr;
    JobRecord record;
    std::vector<Transition> transitions;
  };
  Edited& Of(Job& job);
  std::map<std::int64_t, Edited> edits_;  // by number
};

// Not thread-safe but for AddNew, which does not touch the table.
class JobTable {
 public:
  // Loads the jobs that live, and of those that have ended the latest since `ended_since_ms` (Unix
  // time). `store` outlives the table. Throws what the store throws.
  JobTable(RunStore& store, std::int64_t ended_since_ms);

  // Jobs that have not ended, that still hold slots, or that ended a short while ago; by number.
  std::map<std::int64_t, Job>& live() { return live_; }
  const std::map<std::int64_t, Job>& live() const { return live_; }

  // The living job of that id; null if it is none of them.
  Job* FindLive(const std::string& job_id);
  // The record of any job, without `yaml`. Throws Error(kNotFound).
  JobRecord Find(const std::string& job_id);
  // Throws Error(kNotFound) where there is no such job, Error(kFailedPrecondition) where it is
  // over.
  Job& FindNotOver(const std::string& job_id);
  // The job whose attempt `attempt` is under way. Throws Error(kFailedPrecondition) for any other
  // attempt, Error(kNotFound).
  Job& FindAttempt(const std::string& job_id, int attempt);

  // A number for a new job.
  std::int64_t NextNumber() { return ++last_number_; }
  // A new job, once it is in the store.
  Job& Insert(JobRecord record);

  // Makes all of `changes` durable in one write, then real. `label` names the write's fail points.
  // Throws what RunStore::Commit throws; nothing has changed then.
  void Commit(ChangeSet changes, const char* label);

  // Forgets what ended before `before_ms` (Unix time): it is in the store.
  void DropEnded(std::int64_t before_ms);

  // Of all jobs, in memory or not.
  const std::map<JobState, std::int64_t>& counts() const { return counts_; }
  // Jobs of `owner` that have not ended.
  int UnfinishedOf(const std::string& owner) const;

 private:
  void Load(JobRecord record);
  void Count(const JobRecord& record, int by);

  RunStore& store_;
  std::map<std::int64_t, Job> live_;
  std::map<JobState, std::int64_t> counts_;
  std::map<std::string, int> unfinished_;  // by owner
  std::int64_t last_number_ = 0;
};

}  // namespace fr
