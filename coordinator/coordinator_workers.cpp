// What workers ask of the coordinator, and what they say.

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/sharding/shard_plan.h"
#include "common/store/retention.h"
#include "coordinator/coordinator.h"
#include "coordinator/jobs/job_state.h"

namespace fr {
namespace {

// Whether `request` holds the last words of an attempt that were taken before: their reply was
// lost.
bool IsRepetition(const WorkerReportRequest& request, const JobRecord& record) {
  if (record.attempt() != request.attempt()) return false;
  switch (request.outcome()) {
    case WorkerOutcome::WORKING:
      return false;
    case WorkerOutcome::DONE:
      return record.state() == JobState::COMPLETED;
    case WorkerOutcome::FAILED_FOR_GOOD:
      return record.state() == JobState::FAILED;
    case WorkerOutcome::YIELDED:
      // Its processes are still there, and wait for the reply.
      return record.has_launch() && !HoldsSlots(record.state());
  }
  return false;
}

}  // namespace

GetAssignmentReply Coordinator::GetAssignment(const GetAssignmentRequest& request) {
  const std::lock_guard lock(mutex_);
  Job& job = jobs_.FindAttempt(request.job_id(), request.attempt());
  GetAssignmentReply reply;
  *reply.mutable_spec() = job.record.spec();
  reply.set_run_dir(job.record.run_dir());
  std::vector<CheckpointManifest> checkpoints = store_.Checkpoints(job.record.number());
  std::string origin = "from the beginning";
  if (!checkpoints.empty()) {
    origin = fmt::format("from the checkpoint of step {}", checkpoints.back().step());
  }
  reply.mutable_resume_from()->Assign(std::make_move_iterator(checkpoints.rbegin()),
                                      std::make_move_iterator(checkpoints.rend()));
  if (job.record.state() == JobState::STARTING) {
    ChangeSet changes;
    changes.To(
        job, JobState::RUNNING,
        fmt::format("{} workers, rank 0 on {}, {}", request.world_size(), request.host(), origin));
    jobs_.Commit(std::move(changes), "assignment");
  }
  return reply;
}

RequestShardPlanReply Coordinator::RequestShardPlan(const RequestShardPlanRequest& request) {
  const std::lock_guard lock(mutex_);
  Job& job = jobs_.FindAttempt(request.job_id(), request.attempt());
  ShardPlan plan = PlanShards(request.num_identities(), request.bytes_per_identity(),
                              {request.capacity_bytes().begin(), request.capacity_bytes().end()});
  const std::vector<ShardPlanProto> earlier = store_.ShardPlans(job.record.number());
  plan.generation = earlier.empty() ? 1 : earlier.back().generation();
  RequestShardPlanReply reply;
  if (!earlier.empty() && FromProto(earlier.back()) == plan) {
    *reply.mutable_plan() = earlier.back();
    return reply;
  }
  if (!earlier.empty()) ++plan.generation;
  *reply.mutable_plan() = ToProto(plan);
  reply.mutable_plan()->set_bytes_per_identity(request.bytes_per_identity());
  ChangeSet changes;
  changes.batch.PutShardPlan(job.record.number(), reply.plan());
  jobs_.Commit(std::move(changes), "shard plan");
  return reply;
}

WorkerReportReply Coordinator::WorkerReport(const WorkerReportRequest& request) {
  const std::lock_guard lock(mutex_);
  if (IsRepetition(request, jobs_.Find(request.job_id()))) return {};
  Job& job = jobs_.FindAttempt(request.job_id(), request.attempt());
  const std::int64_t number = job.record.number();
  ChangeSet changes;
  for (const MetricPoint& point : request.points()) changes.batch.PutMetric(number, point);
  if (request.has_progress()) {
    if (request.progress().step() > job.record.progress().step()) job.last_step_ms = SteadyMillis();
    changes.Edit(job).mutable_progress()->MergeFrom(request.progress());
  }

  std::vector<CheckpointManifest> checkpoints;
  if (request.checkpoints_size() > 0) {
    checkpoints = store_.Checkpoints(number);
    job.last_checkpoint_ms = SteadyMillis();
  }
  for (const CheckpointManifest& manifest : request.checkpoints()) {
    changes.batch.PutCheckpoint(number, AddCheckpoint(&checkpoints, manifest));
  }
  const std::vector<std::int64_t> retired =
      RetiredCheckpoints(checkpoints, job.record.spec().checkpoint());
  for (const std::int64_t step : retired) changes.batch.DeleteCheckpoint(number, step);

  if (request.outcome() == WorkerOutcome::DONE) {
    changes.To(job, JobState::COMPLETED, request.reason());
  } else if (request.outcome() == WorkerOutcome::FAILED_FOR_GOOD) {
    changes.To(job, JobState::FAILED, request.reason());
  } else if (request.outcome() == WorkerOutcome::YIELDED) {
    Yielded(&changes, job, fmt::format("stopped at step {}", changes.Edit(job).progress().step()));
  }
  jobs_.Commit(std::move(changes), "report");
  if (request.outcome() != WorkerOutcome::WORKING) {
    job.ends_by_itself = true;
    queue_changed_ = true;
  }
  if (job.latest) {
    for (const MetricPoint& point : request.points()) (*job.latest)[point.name()] = point;
  }
  // Only now: a manifest never points at files that have gone.
  RemoveCheckpoints(checkpoints, retired);
  WorkerReportReply reply;
  reply.set_yield(job.record.has_yield());
  return reply;
}

}  // namespace fr
