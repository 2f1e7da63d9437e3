// RunLink of a stand-alone run: a RunStore in the run directory, and lines on standard output.

#include <cstdio>
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

// "1:02:03".
std::string Duration(double seconds) {
  const auto total = static_cast<std::int64_t>(seconds + 0.5);
  return fmt::format("{}:{:02}:{:02}", total / 3600, total / 60 % 60, total % 60);
}

double ValueOf(const std::vector<MetricPoint>& points, const std::string& name) {
  for (const MetricPoint& point : points) {
    if (point.name() == name) return point.value();
  }
  return 0;
}

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
    Assignment assignment{record_.spec(), run_dir_.string(), {}};
    const std::vector<CheckpointManifest> checkpoints = store_.Checkpoints(kJob);
    std::string reason = fmt::format("started on {} ranks", world_size);
    if (!checkpoints.empty()) {
      assignment.resume_from = checkpoints.back();
      reason += fmt::format(" from the checkpoint of step {}", checkpoints.back().step());
    }
    Change(JobState::RUNNING, reason);
    fmt::print("{}: {}\n", run_dir_.string(), reason);
    return assignment;
  }

  ShardPlan Plan(std::int64_t num_identities, std::int64_t bytes_per_identity,
                 const std::vector<std::int64_t>& capacity_bytes) override {
    ShardPlan plan = PlanShards(num_identities, bytes_per_identity, capacity_bytes);
    const std::vector<ShardPlanProto> earlier = store_.ShardPlans(kJob);
    if (!earlier.empty()) {
      const ShardPlan last = FromProto(earlier.back());
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
    Print(points, progress);
  }

  void CommitCheckpoint(const CheckpointManifest& manifest) override {
    std::vector<CheckpointManifest> checkpoints = store_.Checkpoints(kJob);
    std::erase_if(checkpoints,
                  [&](const CheckpointManifest& other) { return other.step() >= manifest.step(); });
    checkpoints.push_back(manifest);
    StoreBatch batch;
    batch.PutCheckpoint(kJob, manifest);
    const std::vector<std::int64_t> retired =
        RetiredCheckpoints(checkpoints, record_.spec().checkpoint());
    for (const std::int64_t step : retired) batch.DeleteCheckpoint(kJob, step);
    store_.Commit(std::move(batch));
    fmt::print("checkpoint of step {}: {}\n", manifest.step(), manifest.directory());
    RemoveCheckpoints(checkpoints, retired);
  }

  void Finish(WorkerOutcome outcome, const std::string& reason, std::int64_t) override {
    record_.set_ended_ms(UnixMillis());
    Change(outcome == WorkerOutcome::DONE ? JobState::COMPLETED : JobState::FAILED, reason);
    fmt::print("{}: {}\n", outcome == WorkerOutcome::DONE ? "done" : "failed", reason);
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
    batch.PutJob(record_);
    batch.PutTransition(kJob, static_cast<std::int64_t>(store_.Transitions(kJob).size()),
                        transition);
    store_.Commit(std::move(batch));
  }

  static void Print(const std::vector<MetricPoint>& points, const Progress& progress) {
    for (const MetricPoint& point : points) {
      const std::string& name = point.name();
      if (!name.starts_with("val/") || !name.ends_with("/accuracy")) continue;
      const std::string set = name.substr(4, name.size() - 4 - std::string("/accuracy").size());
      const std::string prefix = "val/" + set;
      fmt::print(
          "step {:>7}  {}: accuracy {:.2f} % (+- {:.2f}), AUC {:.4f}, TAR@FAR=1e-3 {:.2f} %\n",
          point.step(), set, 100 * point.value(), 100 * ValueOf(points, prefix + "/accuracy_std"),
          ValueOf(points, prefix + "/auc"), 100 * ValueOf(points, prefix + "/tar_at_far_1e-3"));
    }
    if (progress.has_loss()) {
      fmt::print("step {:>7}/{}  loss {:.6f}  lr {:.5f}  {:.1f} images/s  {} left\n",
                 progress.step(), progress.total_steps(), progress.loss(),
                 ValueOf(points, "train/lr"), progress.images_per_second(),
                 Duration(progress.seconds_left()));
    }
    std::fflush(stdout);
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
