#include "coordinator/jobs/job_state.h"

#include <algorithm>

#include <fmt/format.h>

#include "common/base/error.h"

namespace fr {
namespace {

constexpr std::int64_t kMaxRestartDelayMs = 5 * 60 * 1000;

}  // namespace

bool IsEnded(JobState state) {
  return state == JobState::COMPLETED || state == JobState::FAILED || state == JobState::CANCELLED;
}

bool HoldsSlots(JobState state) {
  return state == JobState::STARTING || state == JobState::RUNNING;
}

bool WaitsForSlots(JobState state) {
  return state == JobState::PENDING || state == JobState::RESTARTING;
}

bool IsAllowed(JobState from, JobState to) {
  switch (to) {
    case JobState::PENDING:
      return false;  // where every job begins
    case JobState::STARTING:
      return WaitsForSlots(from);
    case JobState::RUNNING:
      return from == JobState::STARTING;
    case JobState::RESTARTING:
    case JobState::COMPLETED:
      return HoldsSlots(from);
    case JobState::FAILED:
    case JobState::CANCELLED:
      return !IsEnded(from);
  }
  return false;
}

Transition ChangeState(JobRecord* job, JobState to, const std::string& reason,
                       std::int64_t now_ms) {
  if (!IsAllowed(job->state(), to)) {
    throw Error(ErrorCode::kInternal,
                fmt::format("{}: from {} to {} there is no way ({})", job->id(),
                            JobState_Name(job->state()), JobState_Name(to), reason));
  }
  Transition transition;
  transition.set_from(job->state());
  transition.set_to(to);
  transition.set_time_ms(now_ms);
  transition.set_reason(reason);
  transition.set_attempt(job->attempt());
  job->set_state(to);
  job->set_reason(reason);
  if (to == JobState::STARTING && !job->has_started_ms()) job->set_started_ms(now_ms);
  if (IsEnded(to)) job->set_ended_ms(now_ms);
  return transition;
}

std::int64_t RestartDelayMs(std::int64_t backoff_ms, int restarts) {
  std::int64_t delay = backoff_ms;
  for (int i = 1; i < restarts && delay < kMaxRestartDelayMs; ++i) delay *= 2;
  return std::min(delay, kMaxRestartDelayMs);
}

}  // namespace fr
