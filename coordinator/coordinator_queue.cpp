// What starts, and what makes room: the scheduler's decisions, carried out.

#include <string>
#include <utility>

#include <fmt/format.h>

#include "common/base/clock.h"
#include "coordinator/coordinator.h"
#include "coordinator/jobs/attempt_log.h"
#include "coordinator/jobs/demand.h"
#include "coordinator/jobs/job_state.h"
#include "coordinator/jobs/job_view.h"

namespace fr {
namespace {

// Ageing, back-offs and predictions move by themselves: a round is due even if nothing happened.
constexpr std::int64_t kRoundEveryMs = 1000;

constexpr int kNodesNamed = 4;

std::string NodesText(const LaunchRecord& launch) {
  if (launch.slots_size() > kNodesNamed) return fmt::format("{} nodes", launch.slots_size());
  std::string text;
  for (const NodeSlots& slots : launch.slots()) {
    if (!text.empty()) text += ", ";
    text += slots.node();
  }
  return text;
}

}  // namespace

ClusterView Coordinator::MakeView() {
  ClusterView view;
  view.now_ms = UnixMillis();
  view.nodes = nodes_.Views();
  const bool has_gpus = nodes_.HasGpus();
  const std::int64_t steady_ms = SteadyMillis();
  for (const auto& [number, job] : jobs_.live()) {
    const JobRecord& record = job.record;
    // One that waits, but whose last attempt is still ending, is there by its slots alone.
    if (!WaitsForSlots(record.state()) && !record.has_launch()) continue;
    view.jobs.push_back(ViewOf(job, has_gpus, steady_ms));
    const auto [user, is_new] = view.users.try_emplace(record.owner());
    if (is_new) user->second = users_.ViewOf(record.owner(), view.now_ms);
    // What an attempt has used so far is charged when it ends.
    if (record.has_launch()) {
      user->second.slot_seconds += static_cast<double>(NumWorkers(record.launch())) *
                                   static_cast<double>(view.now_ms - record.launch().started_ms()) /
                                   1000;
    }
  }
  return view;
}

LaunchRequest Coordinator::RequestOf(const Job& job) const {
  const JobRecord& record = job.record;
  LaunchRequest request;
  request.job_id = record.id();
  request.attempt = record.attempt();
  request.threads_per_worker = record.spec().resources().threads_per_worker();
  request.slots.assign(record.launch().slots().begin(), record.launch().slots().end());
  request.worker_bytes = WorkerBytes(record.spec(), record.demand(), NumWorkers(record.launch()));
  request.coordinator = rpc_address_;
  request.directory = record.launch().directory();
  return request;
}

void Coordinator::TakeStart(ChangeSet* changes, Job& job, const StartDecision& start) {
  JobRecord& record = changes->Edit(job);
  record.set_attempt(record.attempt() + 1);
  record.clear_resizing();
  LaunchRecord& launch = *record.mutable_launch();
  launch.set_directory(AttemptDirectory(record, record.attempt()).string());
  launch.set_started_ms(UnixMillis());
  launch.mutable_slots()->Assign(start.slots.begin(), start.slots.end());
  const int workers = NumWorkers(launch);
  changes->To(job, JobState::STARTING,
              fmt::format("attempt {}, {} worker{} on {}", record.attempt(), workers,
                          workers == 1 ? "" : "s", NodesText(launch)));
}

void Coordinator::RunQueue() {
  std::vector<std::pair<std::int64_t, LaunchRequest>> starts;
  {
    const std::lock_guard lock(mutex_);
    const std::int64_t steady_ms = SteadyMillis();
    if (!queue_changed_ && steady_ms - queue_run_ms_ < kRoundEveryMs) return;
    queue_changed_ = false;
    queue_run_ms_ = steady_ms;
    Decisions decisions = Schedule(MakeView(), spec_.scheduler());
    ChangeSet changes;
    for (const StartDecision& start : decisions.starts) {
      TakeStart(&changes, jobs_.live().at(start.number), start);
    }
    for (const YieldDecision& yield : decisions.yields) {
      AskToYield(&changes, jobs_.live().at(yield.number), yield.cause, yield.reason);
    }
    if (!changes.empty()) jobs_.Commit(std::move(changes), "schedule");
    waits_.clear();
    for (WaitDecision& wait : decisions.waits) waits_[wait.number] = std::move(wait);
    for (const StartDecision& start : decisions.starts) {
      Job& job = jobs_.live().at(start.number);
      job.last_step_ms = job.last_checkpoint_ms = steady_ms;
      starts.emplace_back(start.number, RequestOf(job));
    }
  }
  for (const auto& [number, request] : starts) StartAttempt(number, request);
}

}  // namespace fr
