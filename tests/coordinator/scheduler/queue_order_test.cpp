// Who is first: priority, ageing, fair share, and the limits of users.

#include <gtest/gtest.h>

#include "coordinator/scheduler/scheduler.h"
#include "tests/coordinator/scheduler/round_text.h"

namespace fr {
namespace {

TEST(QueueOrder, EqualsInOrderOfSubmission) {
  EXPECT_EQ(Round("a 2", "2 x1\n1 x1\n3 x1"), "1@a:1 2@a:1 | wait 3");
}

TEST(QueueOrder, HigherPriorityFirst) {
  EXPECT_EQ(Round("a 1", "1 x1 prio=50\n2 x1 prio=90"), "2@a:1 | wait 1");
}

// Priority 50 that has waited for 41 hours is before a fresh 90, but 39 hours are not enough.
TEST(QueueOrder, WaitingRaisesPriority) {
  EXPECT_EQ(Round("a 1", "1 x1 waits=41h\n2 x1 prio=90"), "1@a:1 | wait 2");
  EXPECT_EQ(Round("a 1", "1 x1 waits=39h\n2 x1 prio=90"), "2@a:1 | wait 1");
}

TEST(QueueOrder, AgeingHasAnEnd) {
  SchedulerSpec policy;
  policy.set_max_ageing(30);
  EXPECT_EQ(Round("a 1", "1 x1 waits=900h\n2 x1 prio=79", policy), "1@a:1 | wait 2");
  EXPECT_EQ(Round("a 1", "1 x1 waits=900h\n2 x1 prio=81", policy), "2@a:1 | wait 1");
}

// ada has used three quarters of what all have: she loses 15 of the 20, eve 5.
TEST(QueueOrder, WhoUsedMoreLosesPriority) {
  const char* users = "ada used=300\neve used=100";
  EXPECT_EQ(Round("a 1", "1 x1 user=ada prio=59\n2 x1 user=eve", {}, users), "2@a:1 | wait 1");
  EXPECT_EQ(Round("a 1", "1 x1 user=ada prio=61\n2 x1 user=eve", {}, users), "1@a:1 | wait 2");
  // Who used nothing loses nothing.
  EXPECT_EQ(Round("a 1", "1 x1 user=eve prio=54\n2 x1 user=new", {}, users), "2@a:1 | wait 1");
  EXPECT_EQ(Round("a 1", "1 x1 user=eve prio=56\n2 x1 user=new", {}, users), "1@a:1 | wait 2");
}

// Three times the use with three times the share is fair.
TEST(QueueOrder, SharesWeighUse) {
  const char* users = "ada used=300 share=3\neve used=100";
  EXPECT_EQ(Round("a 1", "1 x1 user=ada\n2 x1 user=eve", {}, users), "1@a:1 | wait 2");
  EXPECT_EQ(Round("a 1", "2 x1 user=ada\n1 x1 user=eve", {}, users), "1@a:1 | wait 2");
}

TEST(QueueOrder, FairShareCanBeOff) {
  SchedulerSpec policy;
  policy.set_fair_share_weight(0);
  EXPECT_EQ(Round("a 1", "1 x1 user=ada\n2 x1 user=eve", policy, "ada used=300\neve used=1"),
            "1@a:1 | wait 2");
}

// Use counts half after a half-life, a quarter after two.
TEST(DecayedUse, Halves) {
  EXPECT_DOUBLE_EQ(DecayedUse(100, 0, 1000), 100);
  EXPECT_DOUBLE_EQ(DecayedUse(100, 1000, 1000), 50);
  EXPECT_DOUBLE_EQ(DecayedUse(100, 2000, 1000), 25);
  EXPECT_DOUBLE_EQ(DecayedUse(100, -5, 1000), 100);  // a clock that was set back
}

// ada's 3 are at work, one of them in a job that is stopping: a fourth may, a fifth not; eve's job
// goes past.
TEST(UserLimits, CountWorkersThatRun) {
  const char* nodes = "a 16";
  const char* running = "1 x2 @a:2 user=ada\n2 x1 @a:1 user=ada leaving\n";
  EXPECT_EQ(Round(nodes, std::string(running) + "3 x1 user=ada\n4 x1 user=ada\n5 x9 user=eve", {},
                  "ada max=4"),
            "3@a:1 5@a:9 | wait 4");
}

// An elastic job starts within what is left of the limit.
TEST(UserLimits, LeaveRoomForSmallerJobs) {
  EXPECT_EQ(Round("a 16", "1 x2 @a:2 user=ada\n2 x2-8 user=ada", {}, "ada max=5"), "2@a:3");
}

// What is left of ada's limit is for her job 2, which is the first that waits: job 3 would put it
// off.
TEST(UserLimits, ServeTheFirstJobFirst) {
  EXPECT_EQ(Round("a 8", "1 x4 @a:4 user=eve left=1h fixed\n2 x6 user=ada\n3 x2 user=ada left=1m",
                  {}, "ada max=7"),
            "wait 2 3");
}

// A job that waits for its owner's limit is nobody's first: other users are not held back.
TEST(UserLimits, HoldNobodyBack) {
  SchedulerSpec policy;
  policy.set_backfill(false);
  EXPECT_EQ(Round("a 4", "1 x4 user=ada prio=90\n2 x4", policy, "ada max=3"), "2@a:4 | wait 1");
}

// When it has waited four hours, its owner's later jobs leave it its part of the limit: of three,
// two are for job 2, so that job 3 would be one too many. A job that the limit never allows gets
// none.
TEST(UserLimits, AreKeptForWhoWaitsLong) {
  const std::string running = "1 x2 @a:2 user=ada\n";
  const std::string small = "3 x1 user=ada\n4 x2 user=eve";
  EXPECT_EQ(Round("a 8", running + "2 x2 user=ada waits=239m\n" + small, {}, "ada max=3"),
            "3@a:1 4@a:2 | wait 2");
  EXPECT_EQ(Round("a 8", running + "2 x2 user=ada waits=240m\n" + small, {}, "ada max=3"),
            "4@a:2 | wait 2 3");
  EXPECT_EQ(Round("a 8", running + "2 x4 user=ada waits=240m\n" + small, {}, "ada max=3"),
            "3@a:1 4@a:2 | wait 2");
}

// Nor does one in its back-off hold anybody back; when that is over, it starts.
TEST(BackOff, HoldsNobodyBack) {
  SchedulerSpec policy;
  policy.set_backfill(false);
  EXPECT_EQ(Round("a 4", "1 x4 backoff=30s prio=90\n2 x4", policy), "2@a:4 | wait 1");
  EXPECT_EQ(Round("a 4", "1 x4 backoff=0s prio=90\n2 x4", policy), "1@a:4 | wait 2");
}

TEST(Schedule, NothingFromNothing) {
  EXPECT_EQ(Round("a 2", ""), "");
  EXPECT_EQ(Round("", "1 x1"), "wait 1");
}

}  // namespace
}  // namespace fr
