#include "coordinator/jobs/job_state.h"

#include <algorithm>
#include <cctype>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/base/error.h"

namespace fr {
namespace {

constexpr std::int64_t kMaxRestartDelayMs = 300'000;

}  // namespace

JobState ParseJobState(const std::string& name) {
  std::string upper = name;
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  JobState state = JobState::PENDING;
  if (JobState_Parse(upper, &state)) return state;
  std::vector<std::string> known;
  for (int one = JobState_MIN; one <= JobState_MAX; ++one) {
    if (JobState_IsValid(one)) known.push_back(JobState_Name(static_cast<JobState>(one)));
  }
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("state: \"{}\" is none of {}", name, fmt::join(known, ", ")));
}

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
    case JobState::PENDING:  // where every job begins, too
      return from == JobState::PREEMPTED || from == JobState::PAUSED;
    case JobState::STARTING:
      return WaitsForSlots(from);
    case JobState::RUNNING:
      return from == JobState::STARTING;
    case JobState::RESTARTING:
    case JobState::PREEMPTED:
    case JobState::COMPLETED:
      return HoldsSlots(from);
    case JobState::PAUSED:
      return !IsEnded(from) && from != JobState::PAUSED;
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
  if (to == JobState::STARTING) job->set_attempt_started_ms(now_ms);
  // What restarts may have waited before: whoever restarts it knows.
  if (to == JobState::PENDING) job->set_waiting_since_ms(now_ms);
  if (IsEnded(to)) job->set_ended_ms(now_ms);
  if (!HoldsSlots(to)) job->clear_yield();
  return transition;
}

std::int64_t RestartDelayMs(std::int64_t backoff_ms, int restarts) {
  std::int64_t delay = backoff_ms;
  for (int i = 1; i < restarts && delay < kMaxRestartDelayMs; ++i) delay *= 2;
  return std::min(delay, kMaxRestartDelayMs);
}

}  // namespace fr
