#pragma once
// Which changes of a job's state there are. Pure.
//
//   PENDING -> STARTING -> RUNNING -> COMPLETED | FAILED | CANCELLED
//   STARTING | RUNNING -> RESTARTING -> STARTING      a worker died, or the job is given other
//   nodes STARTING | RUNNING -> PREEMPTED -> PENDING        another job needs the slots any that
//   has not ended -> PAUSED -> PENDING       a person asked for it

#include <cstdint>
#include <string>

#include "proto/record.pb.h"

namespace fr {

// "RUNNING", in any case. Throws Error(kInvalidArgument) for what is no state, naming them all.
JobState ParseJobState(const std::string& name);

// COMPLETED, FAILED, CANCELLED.
bool IsEnded(JobState state);

// STARTING, RUNNING: an attempt is under way and holds slots.
bool HoldsSlots(JobState state);

// PENDING, RESTARTING: waits for slots (RESTARTING: not before its back-off is over).
bool WaitsForSlots(JobState state);

bool IsAllowed(JobState from, JobState to);

// Puts `job` into state `to` and returns the transition to store. Throws Error(kInternal) for a
// change that is not allowed.
Transition ChangeState(JobRecord* job, JobState to, const std::string& reason, std::int64_t now_ms);

// How long restart number `restarts` (from 1) waits: backoff_ms, twice that, four times, ..., five
// minutes at most.
std::int64_t RestartDelayMs(std::int64_t backoff_ms, int restarts);

}  // namespace fr
