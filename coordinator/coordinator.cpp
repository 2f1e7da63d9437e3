// What people ask of the coordinator.

#include "coordinator/coordinator.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include <fmt/format.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/version.h"
#include "common/store/retention.h"
#include "coordinator/jobs/attempt_log.h"
#include "coordinator/jobs/demand.h"
#include "coordinator/jobs/job_state.h"
#include "coordinator/jobs/job_view.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

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

Demand DemandOf(const SubmitJobRequest& request) {
  DataFacts facts;
  if (request.has_identities()) facts.identities = request.identities();
  if (request.has_images()) facts.images = request.images();
  return PredictDemand(request.spec(), facts);
}

JobRecord NewRecord(const SubmitJobRequest& request, std::int64_t number, const Demand& demand) {
  JobRecord record;
  record.set_number(number);
  record.set_id(JobId(number));
  *record.mutable_spec() = request.spec();
  record.set_submitter(request.submitter());
  record.set_owner(OwnerOf(request.submitter()));
  record.set_submitted_ms(UnixMillis());
  record.set_waiting_since_ms(record.submitted_ms());
  *record.mutable_demand() = demand;
  record.set_state(JobState::PENDING);
  record.set_reason("in the queue");
  record.set_transitions(1);
  return record;
}

Transition SubmissionOf(const JobRecord& record) {
  Transition submitted;
  submitted.set_from(JobState::PENDING);
  submitted.set_to(JobState::PENDING);
  submitted.set_time_ms(record.submitted_ms());
  submitted.set_reason(record.submitter().empty() ? "submitted"
                                                  : "submitted by " + record.submitter());
  return submitted;
}

}  // namespace

Coordinator::Coordinator(const CoordinatorSpec& spec, std::unique_ptr<Launcher> launcher)
    : spec_(spec),
      launcher_(std::move(launcher)),
      started_ms_(UnixMillis()),
      store_((fs::create_directories(spec.state_dir()), fs::path(spec.state_dir()) / "store")),
      jobs_(store_, started_ms_ - kShownAfterEndMs),
      nodes_(spec_, store_.Nodes()),
      users_(spec_, store_.Users()) {
  nodes_.Absorb(launcher_->Nodes());
}

void Coordinator::SetAddresses(std::string rpc, std::string http) {
  const std::lock_guard lock(mutex_);
  rpc_address_ = std::move(rpc);
  http_address_ = std::move(http);
}

PingReply Coordinator::Ping() {
  const std::lock_guard lock(mutex_);
  PingReply reply;
  reply.set_version(kVersion);
  reply.set_http_address("http://" + http_address_);
  reply.set_started_ms(started_ms_);
  return reply;
}

std::pair<std::int64_t, bool> Coordinator::AdmitSubmission(const SubmitJobRequest& request,
                                                           const Demand& demand,
                                                           const std::string& owner) {
  const std::string& key = request.submission_key();
  std::unique_lock lock(mutex_);
  arrived_.wait(lock, [&] { return !arriving_.contains(key); });
  if (!key.empty()) {
    if (const auto known = store_.JobOfSubmissionKey(key)) return {*known, false};
  }
  const JobView view = ViewOf(request.spec(), demand, nodes_.HasGpus());
  if (const auto never = WhyNever(view, nodes_.WholeViews())) {
    throw Error(ErrorCode::kInvalidArgument, "this job could never start here: " + *never);
  }
  const int limit = users_.LimitsOf(owner).max_jobs();
  const int unfinished = jobs_.UnfinishedOf(owner) + arriving_of_owner_[owner];
  if (limit > 0 && unfinished >= limit) {
    throw Error(ErrorCode::kResourceExhausted,
                fmt::format("{} has {} jobs that have not ended, and may have {}: wait for one, or "
                            "cancel one (frctl jobs --user {})",
                            owner, unfinished, limit, owner));
  }
  const std::int64_t number = jobs_.NextNumber();
  if (!key.empty()) arriving_[key] = number;
  ++arriving_of_owner_[owner];
  return {number, true};
}

SubmitJobReply Coordinator::Submit(const SubmitJobRequest& request) {
  const JobSpec& spec = request.spec();
  if (spec.name().empty() || spec.data().train().empty() || spec.resources().workers() < 1) {
    throw Error(ErrorCode::kInvalidArgument,
                "a job needs a name, data.train and at least one worker; fr-submit checks files");
  }
  const Demand demand = DemandOf(request);
  const std::string owner = OwnerOf(request.submitter());
  const auto [number, is_new] = AdmitSubmission(request, demand, owner);
  SubmitJobReply reply;
  reply.set_job_id(JobId(number));
  if (!is_new) return reply;

  JobRecord record = NewRecord(request, number, demand);
  record.set_run_dir((fs::path(spec_.state_dir()) / "jobs" / record.id()).string());
  StoreBatch batch;
  batch.PutJob(record);
  batch.PutJobFile(number, request.yaml());
  batch.PutTransition(number, 0, SubmissionOf(record));
  if (!request.submission_key().empty()) batch.PutSubmissionKey(request.submission_key(), number);
  const auto settle = [&](bool is_durable) {
    const std::lock_guard lock(mutex_);
    arriving_.erase(request.submission_key());
    if (--arriving_of_owner_[owner] == 0) arriving_of_owner_.erase(owner);
    if (is_durable) jobs_.Insert(std::move(record));
    queue_changed_ = true;
    arrived_.notify_all();
  };
  try {
    // Without the lock: submissions that come at a time share one sync.
    store_.Commit(std::move(batch), "submit");
  } catch (...) {
    settle(/*is_durable=*/false);
    throw;
  }
  settle(/*is_durable=*/true);
  return reply;
}

void Coordinator::ExplainWaiting(JobRecord* record) const {
  if (HoldsSlots(record->state())) {
    const auto job = jobs_.live().find(record->number());
    if (job != jobs_.live().end() && !job->second.launch_note.empty()) {
      record->set_reason(fmt::format("{}; {}", record->reason(), job->second.launch_note));
    }
    if (record->has_yield()) {
      record->set_reason(fmt::format("{}; asked to stop at a checkpoint: {}", record->reason(),
                                     record->yield().reason()));
    }
    return;
  }
  const auto wait = waits_.find(record->number());
  if (!WaitsForSlots(record->state()) || wait == waits_.end()) return;
  record->set_queue_position(wait->second.position);
  if (wait->second.start_ms) record->set_expected_start_ms(*wait->second.start_ms);
  record->set_reason(record->state() == JobState::PENDING && record->attempt() == 0
                         ? wait->second.reason
                         : fmt::format("{}; {}", record->reason(), wait->second.reason));
}

ListJobsReply Coordinator::List(const ListJobsRequest& request) {
  JobFilter filter;
  filter.owner = request.owner();
  for (const int state : request.states()) filter.states.insert(static_cast<JobState>(state));
  if (request.has_before()) filter.before = request.before();
  filter.limit = request.limit();
  JobPage page = store_.Jobs(filter);
  const std::lock_guard lock(mutex_);
  ListJobsReply reply;
  for (JobRecord& record : page.jobs) {
    ExplainWaiting(&record);
    *reply.add_jobs() = std::move(record);
  }
  reply.set_more(page.more);
  for (const auto& [state, jobs] : jobs_.counts()) {
    StateCount& count = *reply.add_counts();
    count.set_state(state);
    count.set_jobs(jobs);
  }
  return reply;
}

GetJobReply Coordinator::Get(const GetJobRequest& request) {
  const std::lock_guard lock(mutex_);
  GetJobReply reply;
  JobRecord& record = *reply.mutable_job();
  record = jobs_.Find(request.job_id());
  if (auto yaml = store_.JobFile(record.number())) record.set_yaml(*std::move(yaml));
  for (const Transition& transition : store_.Transitions(record.number())) {
    *reply.add_transitions() = transition;
  }
  ExplainWaiting(&record);
  return reply;
}

CancelJobReply Coordinator::Cancel(const CancelJobRequest& request) {
  const std::lock_guard lock(mutex_);
  // A repetition, whose first reply was lost.
  if (jobs_.Find(request.job_id()).state() == JobState::CANCELLED) return {};
  Job& job = jobs_.FindNotOver(request.job_id());
  ChangeSet changes;
  changes.To(job, JobState::CANCELLED, request.reason().empty() ? "cancelled" : request.reason());
  jobs_.Commit(std::move(changes), "cancel");
  queue_changed_ = true;
  return {};
}

PauseJobReply Coordinator::Pause(const PauseJobRequest& request) {
  const std::lock_guard lock(mutex_);
  Job& job = jobs_.FindNotOver(request.job_id());
  const JobState state = job.record.state();
  const std::string reason = request.reason().empty() ? "paused" : request.reason();
  ChangeSet changes;
  if (state == JobState::PAUSED) return {};
  if (state == JobState::RUNNING) {
    AskToYield(&changes, job, Yield::PAUSE, reason);
  } else {
    changes.To(job, JobState::PAUSED, reason);
  }
  jobs_.Commit(std::move(changes), "pause");
  queue_changed_ = true;
  return {};
}

ResumeJobReply Coordinator::Resume(const ResumeJobRequest& request) {
  const std::lock_guard lock(mutex_);
  Job& job = jobs_.FindNotOver(request.job_id());
  ChangeSet changes;
  if (job.record.state() == JobState::PAUSED) {
    changes.To(job, JobState::PENDING, "resumed");
  } else if (job.record.has_yield() && job.record.yield().cause() == Yield::PAUSE) {
    // Should it have begun to stop already, it goes on from that checkpoint.
    changes.Edit(job).clear_yield();
  } else {
    return {};
  }
  jobs_.Commit(std::move(changes), "resume");
  queue_changed_ = true;
  return {};
}

GetMetricsReply Coordinator::GetMetrics(const GetMetricsRequest& request) {
  std::int64_t number = 0;
  {
    const std::lock_guard lock(mutex_);
    number = jobs_.Find(request.job_id()).number();
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
    record = jobs_.Find(request.job_id());
  }
  return ReadAttemptLog(record, request);
}

ListCheckpointsReply Coordinator::ListCheckpoints(const ListCheckpointsRequest& request) {
  const std::lock_guard lock(mutex_);
  ListCheckpointsReply reply;
  for (CheckpointManifest& manifest : store_.Checkpoints(jobs_.Find(request.job_id()).number())) {
    *reply.add_checkpoints() = std::move(manifest);
  }
  return reply;
}

PinCheckpointReply Coordinator::PinCheckpoint(const PinCheckpointRequest& request) {
  const std::lock_guard lock(mutex_);
  const JobRecord record = jobs_.Find(request.job_id());
  const std::int64_t number = record.number();
  std::vector<CheckpointManifest> checkpoints = store_.Checkpoints(number);
  const auto found =
      std::find_if(checkpoints.begin(), checkpoints.end(),
                   [&](const auto& manifest) { return manifest.step() == request.step(); });
  if (found == checkpoints.end()) ThrowNoCheckpoint(request, checkpoints);
  found->set_pinned(request.pinned());
  ChangeSet changes;
  changes.batch.PutCheckpoint(number, *found);
  std::vector<std::int64_t> retired;
  if (!request.pinned()) {
    retired = RetiredCheckpoints(checkpoints, record.spec().checkpoint());
    // Others are the next commit's business.
    std::erase_if(retired, [&](std::int64_t step) { return step != request.step(); });
  }
  for (const std::int64_t step : retired) changes.batch.DeleteCheckpoint(number, step);
  jobs_.Commit(std::move(changes), "pin");
  RemoveCheckpoints(checkpoints, retired);
  PinCheckpointReply reply;
  reply.set_retired(!retired.empty());
  return reply;
}

void Coordinator::AddTargets(const JobRecord& record, GetShardsReply* reply) {
  if (reply->plans().empty()) return;
  std::map<std::string, double> last;
  for (const MetricPoint& point : store_.LastPoints(record.number())) {
    last[point.name()] = point.value();
  }
  const int ranks = reply->plans().rbegin()->ranges_size();
  for (int rank = 0; rank < ranks; ++rank) {
    const auto found = last.find(fmt::format("shard/{}/targets", rank));
    if (found == last.end()) return reply->clear_rank_targets();
    reply->add_rank_targets(found->second);
  }
}

GetShardsReply Coordinator::GetShards(const GetShardsRequest& request) {
  const std::lock_guard lock(mutex_);
  const JobRecord record = jobs_.Find(request.job_id());
  GetShardsReply reply;
  for (ShardPlanProto& plan : store_.ShardPlans(record.number())) {
    *reply.add_plans() = std::move(plan);
  }
  AddTargets(record, &reply);
  if (!HoldsSlots(record.state())) return reply;
  for (const NodeSlots& slots : record.launch().slots()) {
    for (int rank = 0; rank < slots.slots(); ++rank) reply.add_rank_nodes(slots.node());
  }
  return reply;
}

}  // namespace fr
