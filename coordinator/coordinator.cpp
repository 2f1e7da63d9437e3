// What people and workers ask of the coordinator; coordinator_tick.cpp is what it does by itself.

#include "coordinator/coordinator.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/logging.h"
#include "common/base/version.h"
#include "common/sharding/shard_plan.h"
#include "common/store/retention.h"
#include "coordinator/jobs/attempt_log.h"
#include "coordinator/jobs/job_state.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

// So long a job that has ended is part of snapshots: whoever looks once a minute sees its end, and
// the number of jobs in a snapshot stays bounded.
constexpr std::int64_t kShownAfterEndMs = 600'000;

std::string JobId(std::int64_t number) { return fmt::format("job-{}", number); }

int TotalSlots(const CoordinatorSpec& spec) {
  int slots = 0;
  for (const NodeSpec& node : spec.nodes()) slots += node.slots();
  return slots;
}

std::string QueueReason(const JobSpec& job, const CoordinatorSpec& spec) {
  const int workers = job.resources().workers();
  const int slots = TotalSlots(spec);
  if (workers <= slots) return "in the queue";
  return fmt::format("in the queue: it wants {} workers, and all nodes together have {} slots",
                     workers, slots);
}

[[noreturn]] void ThrowNoCheckpoint(const PinCheckpointRequest& request,
                                    const std::vector<CheckpointManifest>& checkpoints) {
  std::vector<std::int64_t> steps;
  steps.reserve(checkpoints.size());
  for (const CheckpointManifest& manifest : checkpoints) steps.push_back(manifest.step());
  throw Error(
      ErrorCode::kNotFound,
      fmt::format("{} has no checkpoint of step {}; it has {}", request.job_id(), request.step(),
                  steps.empty() ? "none" : fmt::format("{}", fmt::join(steps, ", "))));
}

}  // namespace

Coordinator::Coordinator(const CoordinatorSpec& spec, Launcher launcher)
    : spec_(spec),
      launcher_(std::move(launcher)),
      started_ms_(UnixMillis()),
      store_((fs::create_directories(spec.state_dir()), fs::path(spec.state_dir()) / "store")) {
  for (JobRecord& record : store_.Jobs()) {
    Job& job = jobs_[record.number()];
    job.transitions = std::ssize(store_.Transitions(record.number()));
    job.last_step_ms = SteadyMillis();
    job.record = std::move(record);
  }
  TakeOver();
}

void Coordinator::SetAddresses(std::string rpc, std::string http) {
  const std::lock_guard lock(mutex_);
  rpc_address_ = std::move(rpc);
  http_address_ = std::move(http);
}

void Coordinator::Change::To(JobState state, const std::string& reason) {
  transitions.push_back(ChangeState(&record, state, reason, UnixMillis()));
}

void Coordinator::Commit(Change change) {
  std::int64_t index = change.job.transitions;
  for (const Transition& transition : change.transitions) {
    change.batch.PutTransition(change.record.number(), index++, transition);
  }
  change.batch.PutJob(change.record);
  store_.Commit(std::move(change.batch));
  for (const Transition& transition : change.transitions) {
    spdlog::info("{}: {} -> {}: {}", change.record.id(), JobState_Name(transition.from()),
                 JobState_Name(transition.to()), transition.reason());
  }
  change.job.transitions = index;
  change.job.record = std::move(change.record);
}

Coordinator::Job& Coordinator::Find(const std::string& job_id) {
  if (job_id.starts_with("job-") && job_id.size() < 24) {
    const auto found = jobs_.find(std::strtoll(job_id.c_str() + 4, nullptr, 10));
    if (found != jobs_.end() && found->second.record.id() == job_id) return found->second;
  }
  throw Error(ErrorCode::kNotFound,
              fmt::format("there is no job '{}'; frctl jobs lists those there are", job_id));
}

Coordinator::Job& Coordinator::FindAttempt(const std::string& job_id, int attempt) {
  Job& job = Find(job_id);
  const JobRecord& record = job.record;
  if (record.attempt() != attempt || !HoldsSlots(record.state())) {
    throw Error(ErrorCode::kFailedPrecondition,
                fmt::format("attempt {} of {} is over: the job is {} ({})", attempt, job_id,
                            JobState_Name(record.state()), record.reason()));
  }
  return job;
}

PingReply Coordinator::Ping() {
  const std::lock_guard lock(mutex_);
  PingReply reply;
  reply.set_version(kVersion);
  reply.set_http_address("http://" + http_address_);
  reply.set_started_ms(started_ms_);
  return reply;
}

SubmitJobReply Coordinator::Submit(const SubmitJobRequest& request) {
  const JobSpec& spec = request.spec();
  if (spec.name().empty() || spec.data().train().empty() || spec.resources().workers() < 1) {
    throw Error(ErrorCode::kInvalidArgument,
                "a job needs a name, data.train and at least one worker; fr-submit checks files");
  }
  const std::lock_guard lock(mutex_);
  SubmitJobReply reply;
  if (!request.submission_key().empty()) {
    if (const auto known = store_.JobOfSubmissionKey(request.submission_key())) {
      reply.set_job_id(JobId(*known));
      return reply;
    }
  }
  const std::int64_t number = jobs_.empty() ? 1 : jobs_.rbegin()->first + 1;
  Job job;
  job.record.set_number(number);
  job.record.set_id(JobId(number));
  Change change(job);
  *change.record.mutable_spec() = spec;
  change.record.set_yaml(request.yaml());
  change.record.set_submitter(request.submitter());
  change.record.set_submitted_ms(UnixMillis());
  change.record.set_run_dir((fs::path(spec_.state_dir()) / "jobs" / JobId(number)).string());
  change.record.set_reason(QueueReason(spec, spec_));
  change.record.set_state(JobState::PENDING);
  Transition& submitted = change.transitions.emplace_back();
  submitted.set_from(JobState::PENDING);
  submitted.set_to(JobState::PENDING);
  submitted.set_time_ms(change.record.submitted_ms());
  submitted.set_reason(request.submitter().empty() ? "submitted"
                                                   : "submitted by " + request.submitter());
  if (!request.submission_key().empty()) {
    change.batch.PutSubmissionKey(request.submission_key(), number);
  }
  Commit(std::move(change));
  reply.set_job_id(job.record.id());
  jobs_.emplace(number, std::move(job));
  return reply;
}

ListJobsReply Coordinator::List(const ListJobsRequest& /*request*/) {
  const std::lock_guard lock(mutex_);
  ListJobsReply reply;
  for (auto job = jobs_.rbegin(); job != jobs_.rend(); ++job) {
    *reply.add_jobs() = job->second.record;
    reply.mutable_jobs()->rbegin()->clear_yaml();
  }
  return reply;
}

GetJobReply Coordinator::Get(const GetJobRequest& request) {
  const std::lock_guard lock(mutex_);
  const Job& job = Find(request.job_id());
  GetJobReply reply;
  *reply.mutable_job() = job.record;
  for (const Transition& transition : store_.Transitions(job.record.number())) {
    *reply.add_transitions() = transition;
  }
  return reply;
}

CancelJobReply Coordinator::Cancel(const CancelJobRequest& request) {
  const std::lock_guard lock(mutex_);
  Job& job = Find(request.job_id());
  // A repetition, whose first reply was lost.
  if (job.record.state() == JobState::CANCELLED) return {};
  if (IsEnded(job.record.state())) {
    throw Error(ErrorCode::kFailedPrecondition,
                fmt::format("{} has ended already: {} ({})", request.job_id(),
                            JobState_Name(job.record.state()), job.record.reason()));
  }
  Change change(job);
  change.To(JobState::CANCELLED, request.reason().empty() ? "cancelled" : request.reason());
  Commit(std::move(change));
  return {};
}

GetMetricsReply Coordinator::GetMetrics(const GetMetricsRequest& request) {
  std::int64_t number = 0;
  {
    const std::lock_guard lock(mutex_);
    number = Find(request.job_id()).record.number();
  }
  GetMetricsReply reply;
  for (MetricSeries& series : store_.Metrics(
           number, {request.names().begin(), request.names().end()}, request.after_step())) {
    *reply.add_series() = std::move(series);
  }
  return reply;
}

GetLogsReply Coordinator::GetLogs(const GetLogsRequest& request) {
  JobRecord record;
  {
    const std::lock_guard lock(mutex_);
    record = Find(request.job_id()).record;
  }
  return ReadAttemptLog(record, request);
}

ListCheckpointsReply Coordinator::ListCheckpoints(const ListCheckpointsRequest& request) {
  const std::lock_guard lock(mutex_);
  ListCheckpointsReply reply;
  for (CheckpointManifest& manifest : store_.Checkpoints(Find(request.job_id()).record.number())) {
    *reply.add_checkpoints() = std::move(manifest);
  }
  return reply;
}

PinCheckpointReply Coordinator::PinCheckpoint(const PinCheckpointRequest& request) {
  const std::lock_guard lock(mutex_);
  Job& job = Find(request.job_id());
  const std::int64_t number = job.record.number();
  std::vector<CheckpointManifest> checkpoints = store_.Checkpoints(number);
  const auto found =
      std::find_if(checkpoints.begin(), checkpoints.end(),
                   [&](const auto& manifest) { return manifest.step() == request.step(); });
  if (found == checkpoints.end()) ThrowNoCheckpoint(request, checkpoints);
  found->set_pinned(request.pinned());
  Change change(job);
  change.batch.PutCheckpoint(number, *found);
  std::vector<std::int64_t> retired;
  if (!request.pinned()) {
    retired = RetiredCheckpoints(checkpoints, job.record.spec().checkpoint());
    // Others are the next commit's business.
    std::erase_if(retired, [&](std::int64_t step) { return step != request.step(); });
  }
  for (const std::int64_t step : retired) change.batch.DeleteCheckpoint(number, step);
  Commit(std::move(change));
  RemoveCheckpoints(checkpoints, retired);
  PinCheckpointReply reply;
  reply.set_retired(!retired.empty());
  return reply;
}

GetShardsReply Coordinator::GetShards(const GetShardsRequest& request) {
  const std::lock_guard lock(mutex_);
  GetShardsReply reply;
  for (ShardPlanProto& plan : store_.ShardPlans(Find(request.job_id()).record.number())) {
    *reply.add_plans() = std::move(plan);
  }
  return reply;
}

ListNodesReply Coordinator::ListNodes(const ListNodesRequest& /*request*/) {
  const std::lock_guard lock(mutex_);
  ListNodesReply reply;
  const std::map<std::string, NodeStatus> nodes = NodesInUse();
  for (const NodeSpec& node : spec_.nodes()) *reply.add_nodes() = nodes.at(node.name());
  return reply;
}

void Coordinator::FillLatest(Job& job) {
  if (job.latest) return;
  job.latest.emplace();
  for (MetricPoint& point : store_.LastPoints(job.record.number())) {
    std::string name = point.name();
    job.latest->emplace(std::move(name), std::move(point));
  }
}

Snapshot Coordinator::TakeSnapshot() {
  const std::lock_guard lock(mutex_);
  Snapshot snapshot;
  snapshot.started_ms = started_ms_;
  const std::map<std::string, NodeStatus> nodes = NodesInUse();
  for (const NodeSpec& node : spec_.nodes()) snapshot.nodes.push_back(nodes.at(node.name()));
  const std::int64_t now_ms = UnixMillis();
  for (auto& [number, job] : jobs_) {
    const JobRecord& record = job.record;
    ++snapshot.jobs_by_state[record.state()];
    const bool over = IsEnded(record.state()) && now_ms - record.ended_ms() > kShownAfterEndMs;
    if (over) job.latest.reset();
    if (over || record.attempt() == 0) continue;
    FillLatest(job);
    JobFigures& figures = snapshot.jobs.emplace_back();
    figures.record = record;
    for (const auto& [name, point] : *job.latest) figures.latest.push_back(point);
  }
  return snapshot;
}

GetAssignmentReply Coordinator::GetAssignment(const GetAssignmentRequest& request) {
  const std::lock_guard lock(mutex_);
  Job& job = FindAttempt(request.job_id(), request.attempt());
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
    Change change(job);
    change.To(JobState::RUNNING, fmt::format("{} workers, rank 0 on {}, {}", request.world_size(),
                                             request.host(), origin));
    Commit(std::move(change));
  }
  return reply;
}

RequestShardPlanReply Coordinator::RequestShardPlan(const RequestShardPlanRequest& request) {
  const std::lock_guard lock(mutex_);
  Job& job = FindAttempt(request.job_id(), request.attempt());
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
  Change change(job);
  change.batch.PutShardPlan(job.record.number(), reply.plan());
  Commit(std::move(change));
  return reply;
}

WorkerReportReply Coordinator::WorkerReport(const WorkerReportRequest& request) {
  const std::lock_guard lock(mutex_);
  {
    // The last words once more, because their first reply was lost.
    const JobRecord& record = Find(request.job_id()).record;
    const bool repeated =
        record.attempt() == request.attempt() &&
        ((request.outcome() == WorkerOutcome::DONE && record.state() == JobState::COMPLETED) ||
         (request.outcome() == WorkerOutcome::FAILED_FOR_GOOD &&
          record.state() == JobState::FAILED));
    if (repeated) return {};
  }
  Job& job = FindAttempt(request.job_id(), request.attempt());
  const std::int64_t number = job.record.number();
  Change change(job);
  for (const MetricPoint& point : request.points()) change.batch.PutMetric(number, point);
  if (request.has_progress()) {
    if (request.progress().step() > job.record.progress().step()) job.last_step_ms = SteadyMillis();
    change.record.mutable_progress()->MergeFrom(request.progress());
  }

  std::vector<CheckpointManifest> checkpoints;
  if (request.checkpoints_size() > 0) checkpoints = store_.Checkpoints(number);
  for (const CheckpointManifest& manifest : request.checkpoints()) {
    change.batch.PutCheckpoint(number, AddCheckpoint(&checkpoints, manifest));
  }
  const std::vector<std::int64_t> retired =
      RetiredCheckpoints(checkpoints, job.record.spec().checkpoint());
  for (const std::int64_t step : retired) change.batch.DeleteCheckpoint(number, step);

  if (request.outcome() == WorkerOutcome::DONE) {
    change.To(JobState::COMPLETED, request.reason());
  } else if (request.outcome() == WorkerOutcome::FAILED_FOR_GOOD) {
    change.To(JobState::FAILED, request.reason());
  }
  Commit(std::move(change));
  if (job.latest) {
    for (const MetricPoint& point : request.points()) (*job.latest)[point.name()] = point;
  }
  // Only now: a manifest never points at files that have gone.
  RemoveCheckpoints(checkpoints, retired);
  return {};
}

}  // namespace fr
