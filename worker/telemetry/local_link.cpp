// RunLink of a stand-alone run: a RunStore in the run directory, and lines on standard output.

#include <algorithm>
#include <filesystem>
#include <utility>

#include <fmt/format.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/logging.h"
#include "common/store/retention.h"
#include "common/store/run_store.h"
#include "worker/telemetry/run_link.h"

namespace fr {
namespace {

constexpr std::int64_t kJob = 1;

class LocalLink : public RunLink {
 public:
  LocalLink(const JobSpec& spec, const std::filesystem::path& run_dir)
      : run_dir_(run_dir),
        store_((std::filesystem::create_directories(run_dir), run_dir / "store")) {
    record_ = store_.Job(kJob).value_or(JobRecord());
    *record_.mutable_spec() = spec;
    record_.set_number(kJob);
    record_.set_id("job-1");
    record_.set_run_dir(run_dir.string());
    if (record_.submitted_ms() == 0) record_.set_submitted_ms(UnixMillis());
  }

  Assignment Begin(int world_size) override {
    record_.set_attempt(record_.attempt() + 1);
    record_.set_started_ms(UnixMillis());
    record_.clear_ended_ms();
    std::vector<CheckpointManifest> checkpoints = store_.Checkpoints(kJob);
    std::reverse(checkpoints.begin(), checkpoints.end());
    std::string reason = fmt::format("started on {} ranks", world_size);
    if (!checkpoints.empty()) {
      reason += fmt::format(" from the checkpoint of step {}", checkpoints.front().step());
    }
    Change(JobState::RUNNING, reason);
    spdlog::info("{}: {}", run_dir_.string(), reason);
    return {record_.spec(), run_dir_.string(), std::move(checkpoints)};
  }

  ShardPlan Plan(std::int64_t num_identities, std::int64_t bytes_per_identity,
                 const std::vector<std::int64_t>& capacity_bytes) override {
    ShardPlan plan = PlanShards(num_identities, bytes_per_identity, capacity_bytes);
    const std::vector<ShardPlanProto> earlier = store_.ShardPlans(kJob);
    if (!earlier.empty()) {
      ShardPlan last = FromProto(earlier.back());
      plan.generation = last.generation;
      if (plan == last) return last;
    }
    ++plan.generation;
    StoreBatch batch;
    batch.PutShardPlan(kJob, ToProto(plan));
    store_.Commit(std::move(batch));
    return plan;
  }

  void Report(const std::vector<MetricPoint>& points, const Progress& progress) override {
    StoreBatch batch;
    for (const MetricPoint& point : points) batch.PutMetric(kJob, point);
    record_.mutable_progress()->MergeFrom(progress);
    batch.PutJob(record_);
    store_.Commit(std::move(batch));
  }

  void CommitCheckpoint(const CheckpointManifest& manifest) override {
    std::vector<CheckpointManifest> checkpoints = store_.Checkpoints(kJob);
    StoreBatch batch;
    batch.PutCheckpoint(kJob, AddCheckpoint(&checkpoints, manifest));
    const std::vector<std::int64_t> retired =
        RetiredCheckpoints(checkpoints, record_.spec().checkpoint());
    for (const std::int64_t step : retired) batch.DeleteCheckpoint(kJob, step);
    store_.Commit(std::move(batch));
    RemoveCheckpoints(checkpoints, retired);
  }

  void Finish(WorkerOutcome outcome, const std::string& reason, std::int64_t) override {
    record_.set_ended_ms(UnixMillis());
    Change(outcome == WorkerOutcome::DONE ? JobState::COMPLETED : JobState::FAILED, reason);
  }

 private:
  void Change(JobState to, const std::string& reason) {
    Transition transition;
    transition.set_from(record_.state());
    transition.set_to(to);
    transition.set_time_ms(UnixMillis());
    transition.set_reason(reason);
    transition.set_attempt(record_.attempt());
    record_.set_state(to);
    record_.set_reason(reason);
    StoreBatch batch;
    batch.PutTransition(kJob, record_.transitions(), transition);
    record_.set_transitions(record_.transitions() + 1);
    batch.PutJob(record_);
    store_.Commit(std::move(batch));
  }

  std::filesystem::path run_dir_;
  RunStore store_;
  JobRecord record_;
};

}  // namespace

std::unique_ptr<RunLink> MakeLocalLink(const JobSpec& spec, const std::string& run_dir) {
  return std::make_unique<LocalLink>(spec, run_dir);
}

}  // namespace fr
