// What becomes of attempts: those that end, stall, lose their nodes or outlive their time.

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/fail_point.h"
#include "common/base/logging.h"
#include "coordinator/coordinator.h"
#include "coordinator/jobs/demand.h"
#include "coordinator/jobs/job_state.h"
#include "coordinator/jobs/job_view.h"
#include "coordinator/launch/attempt_files.h"

namespace fr {
namespace {

// An attempt that outlives being killed is killed again after so long.
constexpr std::int64_t kKillAgainMs = 10'000;
// A cluster that does not take a job just now, or a full disk, is tried again after so long.
constexpr std::int64_t kRelaunchDelayMs = 10'000;

// What a launcher says of an attempt, beside the directory and slots that were stored before.
void AddAnswer(LaunchRecord answer, LaunchRecord* launch) {
  answer.clear_slots();
  launch->MergeFrom(answer);
}

bool WasAnswered(const LaunchRecord& launch) { return launch.has_pid() || launch.has_handle(); }

// Where a job goes that stopped as it was asked.
JobState AfterYield(const JobRecord& record) {
  if (!record.has_yield()) return JobState::RESTARTING;
  switch (record.yield().cause()) {
    case Yield::PREEMPT:
      return JobState::PREEMPTED;
    case Yield::PAUSE:
      return JobState::PAUSED;
    case Yield::RESIZE:
    case Yield::EVICT:
      return JobState::RESTARTING;
  }
  return JobState::RESTARTING;
}

std::string EndText(const JobRecord& record, const AttemptStatus& status) {
  std::string text = status.exit_status
                         ? fmt::format("the workers ended with exit status {}", *status.exit_status)
                         : std::string("the workers were killed");
  if (!status.reason.empty()) text += fmt::format(" ({})", status.reason);
  const std::string tail = status.exit_status ? LogTail(record.launch().directory(), 3) : "";
  return tail.empty() ? text : fmt::format("{}: {}", text, tail);
}

}  // namespace

void Coordinator::Tick() {
  RecoverStarts();
  LookAtAttempts();
  RunQueue();
}

// A coordinator that was killed while it started an attempt left a launch without an answer. What
// came of it only the launcher can find out.
void Coordinator::RecoverStarts() {
  struct Unanswered {
    std::int64_t number;
    int attempt;
    LaunchRequest request;
  };
  std::vector<Unanswered> starts;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [number, job] : jobs_.live()) {
      if (!job.record.has_launch() || WasAnswered(job.record.launch())) continue;
      starts.push_back({number, job.record.attempt(), RequestOf(job)});
    }
  }
  for (const Unanswered& start : starts) {
    try {
      SettleStart(start.number, start.attempt, launcher_->Recover(start.request));
    } catch (const Error& error) {
      spdlog::warn("{}: whether attempt {} was started cannot be told yet: {}",
                   start.request.job_id, start.attempt, error.what());
    }
  }
}

void Coordinator::SettleStart(std::int64_t number, int attempt,
                              const std::optional<LaunchRecord>& found) {
  const std::lock_guard lock(mutex_);
  Job& job = jobs_.live().at(number);
  LookOutcome outcome;
  if (found) {
    spdlog::info("{}: attempt {} was started by an earlier coordinator; it goes on",
                 job.record.id(), attempt);
    AddAnswer(*found, outcome.changes.Edit(job).mutable_launch());
  } else if (HoldsSlots(job.record.state())) {
    outcome.changes.Edit(job).clear_launch();
    RestartUncounted(&outcome.changes, job,
                     "the coordinator ended before it had started the attempt", 0);
  } else {
    FreeSlots(job, &outcome);
  }
  Commit(&outcome);
}

void Coordinator::LookAtAttempts() {
  std::vector<std::pair<std::int64_t, int>> attempts;  // number and attempt
  std::vector<LaunchRecord> launches;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [number, job] : jobs_.live()) {
      if (!WasAnswered(job.record.launch())) continue;
      attempts.emplace_back(number, job.record.attempt());
      launches.push_back(job.record.launch());
    }
  }
  const std::vector<AttemptStatus> statuses = launcher_->Look(launches);
  const std::vector<NodeReport> reports = launcher_->Nodes();
  LookOutcome outcome;
  {
    const std::lock_guard lock(mutex_);
    if (nodes_.Absorb(reports)) queue_changed_ = true;
    for (std::size_t i = 0; i < attempts.size(); ++i) {
      const auto& [number, attempt] = attempts[i];
      // Only ticks end attempts: it is still there.
      JudgeAttempt(jobs_.live().at(number), statuses[i], &outcome);
    }
    Commit(&outcome);
    jobs_.DropEnded(UnixMillis() - kShownAfterEndMs);
  }
  for (const auto& [launch, mode] : outcome.stops) launcher_->Stop(launch, mode);
}

void Coordinator::Commit(LookOutcome* outcome) {
  if (outcome->changes.empty() && outcome->nodes.empty()) return;
  for (const NodeRecord& node : outcome->nodes) outcome->changes.batch.PutNode(node);
  for (const UserRecord& user : outcome->users) outcome->changes.batch.PutUser(user);
  jobs_.Commit(std::move(outcome->changes), "attempts");
  for (const UserRecord& user : outcome->users) users_.Set(user);
  queue_changed_ = true;
}

void Coordinator::JudgeAttempt(Job& job, const AttemptStatus& status, LookOutcome* outcome) {
  job.launch_note = status.phase == AttemptPhase::kQueued || status.phase == AttemptPhase::kUnknown
                        ? status.reason
                        : "";
  if (status.phase == AttemptPhase::kUnknown) return;
  const bool is_wanted = HoldsSlots(job.record.state());
  if (status.phase != AttemptPhase::kEnded) {
    if (is_wanted) return JudgeRunning(job, status, outcome);
    return EndLingering(job, outcome);
  }
  if (is_wanted) JudgeEnded(job, status, outcome);
  FreeSlots(job, outcome);
}

// The attempt has no processes any more.
void Coordinator::FreeSlots(Job& job, LookOutcome* outcome) {
  JobRecord& record = outcome->changes.Edit(job);
  const std::int64_t now_ms = UnixMillis();
  const double seconds =
      static_cast<double>(std::max<std::int64_t>(0, now_ms - record.launch().started_ms())) / 1000;
  // Several jobs of one user may end at a time.
  const auto charged =
      std::find_if(outcome->users.begin(), outcome->users.end(),
                   [&](const UserRecord& user) { return user.name() == record.owner(); });
  const double used = seconds * NumWorkers(record.launch());
  if (charged != outcome->users.end()) {
    charged->set_slot_seconds(charged->slot_seconds() + used);
  } else {
    outcome->users.push_back(users_.Charged(record.owner(), used, now_ms));
  }
  record.clear_launch();
  if (record.state() == JobState::PREEMPTED) {
    outcome->changes.To(job, JobState::PENDING, record.reason());
  }
  job.stop_asked_ms = 0;
  job.ends_by_itself = false;
}

// The job counts on this attempt, which has ended by itself.
void Coordinator::JudgeEnded(Job& job, const AttemptStatus& status, LookOutcome* outcome) {
  const JobRecord& record = job.record;
  const std::string cause = EndText(record, status);
  const std::int64_t now_ms = UnixMillis();
  for (const std::string& name : status.failed_nodes) {
    if (status.nodes_lost) nodes_.Suspect(name, now_ms);
    NodeFailure failure;
    failure.set_time_ms(now_ms);
    failure.set_job_id(record.id());
    failure.set_attempt(record.attempt());
    failure.set_reason(status.reason.empty() ? cause : status.reason);
    const NodeRecord failed = nodes_.Failed(name, failure);
    if (!failed.has_name()) continue;
    // At once, for another attempt may have failed there, too.
    nodes_.Set(failed);
    outcome->nodes.push_back(failed);
  }
  LoseAttempt(&outcome->changes, job, cause, status.nodes_lost);
}

// It has ended, or is given up, before its time.
void Coordinator::LoseAttempt(ChangeSet* changes, Job& job, const std::string& cause,
                              bool nodes_lost) {
  if (job.record.has_yield()) {
    Yielded(changes, job, "ended before it had made a checkpoint: " + cause);
  } else if (nodes_lost) {
    RestartUncounted(changes, job, cause, spec_.restart_backoff_ms());
  } else {
    RestartOrFail(changes, job, cause);
  }
}

// The job counts on this attempt, and it has processes: do they get on?
void Coordinator::JudgeRunning(Job& job, const AttemptStatus& status, LookOutcome* outcome) {
  const JobRecord& record = job.record;
  const std::int64_t now_ms = SteadyMillis();
  // A whole cluster that does not answer has not lost its workers.
  const bool nodes_are_machines = launcher_->DealsOutMachines();
  for (const NodeSlots& slots : record.launch().slots()) {
    if (!nodes_are_machines || !nodes_.IsDown(slots.node())) continue;
    return LoseAttempt(
        &outcome->changes, job,
        fmt::format("node {} is down: {}", slots.node(), nodes_.DownReason(slots.node())),
        /*nodes_lost=*/true);
  }
  if (status.phase == AttemptPhase::kQueued) {
    job.last_step_ms = now_ms;
    return;
  }
  const std::int64_t asked_ms = record.yield().asked_ms();
  if (record.has_yield() && UnixMillis() - asked_ms > spec_.scheduler().yield_timeout_ms()) {
    Yielded(&outcome->changes, job,
            fmt::format("made no checkpoint for {} s and was ended",
                        spec_.scheduler().yield_timeout_ms() / 1000));
    return;
  }
  const std::int64_t timeout_ms = record.spec().restart().stall_timeout_ms();
  if (now_ms - job.last_step_ms > timeout_ms) {
    RestartOrFail(&outcome->changes, job, fmt::format("no step for {} s", timeout_ms / 1000));
  }
}

// The job is through with this attempt, which still has processes.
void Coordinator::EndLingering(Job& job, LookOutcome* outcome) {
  const std::int64_t now_ms = SteadyMillis();
  if (job.stop_asked_ms == 0) {
    job.stop_asked_ms = now_ms;
    if (!job.ends_by_itself) outcome->stops.emplace_back(job.record.launch(), StopMode::kAsk);
  } else if (now_ms - job.stop_asked_ms > spec_.kill_grace_ms()) {
    spdlog::warn("{}: attempt {} does not end; it is killed", job.record.id(),
                 job.record.attempt());
    outcome->stops.emplace_back(job.record.launch(), StopMode::kKill);
    // Should that not help, it is done again: not at once, for a host may take its time.
    job.stop_asked_ms = now_ms + kKillAgainMs;
  }
}

void Coordinator::AskToYield(ChangeSet* changes, Job& job, Yield::Cause cause,
                             const std::string& reason) {
  Yield& yield = *changes->Edit(job).mutable_yield();
  yield.set_cause(cause);
  yield.set_asked_ms(UnixMillis());
  yield.set_reason(reason);
}

void Coordinator::Yielded(ChangeSet* changes, Job& job, const std::string& how) {
  JobRecord& record = changes->Edit(job);
  const JobState next = AfterYield(record);
  const std::string why = record.has_yield() ? record.yield().reason() : "as it had been asked";
  if (next == JobState::PREEMPTED) record.set_preemptions(record.preemptions() + 1);
  record.set_resizing(record.has_yield() && record.yield().cause() == Yield::RESIZE);
  if (next == JobState::RESTARTING) {
    record.set_not_before_ms(0);
    record.set_waiting_since_ms(UnixMillis());
  }
  changes->To(job, next, fmt::format("{}; {}", why, how));
}

void Coordinator::RestartOrFail(ChangeSet* changes, Job& job, const std::string& cause) {
  JobRecord& record = changes->Edit(job);
  const int max_restarts = record.spec().restart().max_restarts();
  if (record.restarts() >= max_restarts) {
    changes->To(job, JobState::FAILED,
                max_restarts == 0
                    ? cause
                    : fmt::format("{} (and {} restarts did not help)", cause, max_restarts));
    return;
  }
  record.set_restarts(record.restarts() + 1);
  const std::int64_t delay_ms = RestartDelayMs(spec_.restart_backoff_ms(), record.restarts());
  RestartUncounted(changes, job,
                   fmt::format("{}; restart {} of {} in {} s", cause, record.restarts(),
                               max_restarts, (delay_ms + 999) / 1000),
                   delay_ms);
}

void Coordinator::RestartUncounted(ChangeSet* changes, Job& job, const std::string& cause,
                                   std::int64_t delay_ms) {
  JobRecord& record = changes->Edit(job);
  const std::int64_t now_ms = UnixMillis();
  record.set_not_before_ms(now_ms + delay_ms);
  // It has waited as long as before its start, not while it ran.
  record.set_waiting_since_ms(
      now_ms - std::max<std::int64_t>(0, record.attempt_started_ms() - record.waiting_since_ms()));
  changes->To(job, JobState::RESTARTING, cause);
}

void Coordinator::StartAttempt(std::int64_t number, const LaunchRequest& request) {
  std::optional<LaunchRecord> launched;
  std::optional<Error> failure;
  FR_FAIL_POINT("launch: before start");
  try {
    launched = launcher_->Start(request);
  } catch (const Error& error) {
    failure = error;
  }
  FR_FAIL_POINT("launch: after start");
  const std::lock_guard lock(mutex_);
  Job& job = jobs_.live().at(number);
  LookOutcome outcome;
  if (launched) {
    AddAnswer(*launched, outcome.changes.Edit(job).mutable_launch());
  } else if (!HoldsSlots(job.record.state())) {
    FreeSlots(job, &outcome);  // cancelled meanwhile
  } else {
    outcome.changes.Edit(job).clear_launch();
    if (failure->code() == ErrorCode::kUnavailable ||
        failure->code() == ErrorCode::kResourceExhausted) {
      RestartUncounted(&outcome.changes, job, failure->what(), kRelaunchDelayMs);
    } else {
      RestartOrFail(&outcome.changes, job, failure->what());
    }
  }
  Commit(&outcome);
}

}  // namespace fr
