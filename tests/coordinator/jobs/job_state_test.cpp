#include "coordinator/jobs/job_state.h"

#include <vector>

#include <gtest/gtest.h>

#include "common/base/error.h"

namespace fr {
namespace {

constexpr JobState kStates[] = {JobState::PENDING,    JobState::STARTING,  JobState::RUNNING,
                                JobState::RESTARTING, JobState::COMPLETED, JobState::FAILED,
                                JobState::CANCELLED};

// What has ended stays as it is.
TEST(JobState, NothingLeadsOutOfAnEnd) {
  for (const JobState from : kStates) {
    for (const JobState to : kStates) {
      if (IsEnded(from)) {
        EXPECT_FALSE(IsAllowed(from, to)) << JobState_Name(from) << " " << JobState_Name(to);
      }
    }
  }
}

// Whatever a job does, a person can cancel it, and it can fail.
TEST(JobState, EveryLivingJobCanBeCancelledAndCanFail) {
  for (const JobState from : kStates) {
    EXPECT_EQ(IsAllowed(from, JobState::CANCELLED), !IsEnded(from));
    EXPECT_EQ(IsAllowed(from, JobState::FAILED), !IsEnded(from));
  }
}

TEST(JobState, AJobWalksTheRoadOfTheDiagram) {
  JobRecord job;
  job.set_id("job-1");
  for (const JobState to : {JobState::STARTING, JobState::RUNNING, JobState::RESTARTING,
                            JobState::STARTING, JobState::RUNNING, JobState::COMPLETED}) {
    const JobState from = job.state();
    const Transition transition = ChangeState(&job, to, "because", 42);
    EXPECT_EQ(transition.from(), from);
    EXPECT_EQ(transition.to(), to);
    EXPECT_EQ(job.state(), to);
    EXPECT_EQ(job.reason(), "because");
  }
  EXPECT_EQ(job.started_ms(), 42);
  EXPECT_EQ(job.ended_ms(), 42);
  EXPECT_THROW(ChangeState(&job, JobState::RUNNING, "again", 43), Error);
}

// Ageing counts from the moment from which a job waits. What restarts may have waited before:
// whoever restarts it says since when.
TEST(JobState, WaitsSinceItIsPending) {
  JobRecord job;
  job.set_waiting_since_ms(1);
  ChangeState(&job, JobState::STARTING, "", 5);
  ChangeState(&job, JobState::RESTARTING, "", 6);
  EXPECT_EQ(job.waiting_since_ms(), 1);
  ChangeState(&job, JobState::STARTING, "", 7);
  ChangeState(&job, JobState::PREEMPTED, "", 8);
  ChangeState(&job, JobState::PENDING, "", 9);
  EXPECT_EQ(job.waiting_since_ms(), 9);
}

TEST(RestartDelay, DoublesUpToFiveMinutes) {
  EXPECT_EQ(RestartDelayMs(2000, 1), 2000);
  EXPECT_EQ(RestartDelayMs(2000, 2), 4000);
  EXPECT_EQ(RestartDelayMs(2000, 4), 16000);
  EXPECT_EQ(RestartDelayMs(2000, 1000), 300'000);
  EXPECT_EQ(RestartDelayMs(0, 1000), 0);
}

}  // namespace
}  // namespace fr
