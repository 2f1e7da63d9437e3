// Who stops for a job of higher priority.

#include <string>

#include <gtest/gtest.h>

#include "tests/coordinator/scheduler/round_text.h"

namespace fr {
namespace {

TEST(Preemption, MakesRoomForHigherPriority) {
  EXPECT_EQ(Round("a 4", "1 x4 @a:4 prio=50\n2 x4 prio=60"), "preempt 1 | wait 2");
}

TEST(Preemption, CanBeOff) {
  SchedulerSpec policy;
  policy.set_preemption(false);
  EXPECT_EQ(Round("a 4", "1 x4 @a:4 prio=50\n2 x4 prio=90", policy), "wait 2");
}

// The priorities of the job files count, by the gap at least: waiting gives no right to stop
// others, and equals never stop each other.
TEST(Preemption, OnlyAcrossTheGap) {
  EXPECT_EQ(Round("a 4", "1 x4 @a:4 prio=50\n2 x4 prio=59 waits=50h"), "wait 2");
  SchedulerSpec policy;
  policy.set_preemption_gap(0);
  EXPECT_EQ(Round("a 4", "1 x4 @a:4 prio=50\n2 x4 prio=51", policy), "preempt 1 | wait 2");
  EXPECT_EQ(Round("a 4", "1 x4 @a:4 prio=50\n2 x4 prio=50 waits=50h", policy), "wait 2");
}

// ada's victim would be before her job in the queue, and take its slots back.
TEST(Preemption, OnlyWhoComesFirstInTheQueue) {
  EXPECT_EQ(Round("a 4", "1 x4 @a:4 user=eve prio=50\n2 x4 user=ada prio=60", {},
                  "ada used=9\neve used=1"),
            "wait 2");
}

TEST(Preemption, OfThoseThatMayBe) {
  EXPECT_EQ(Round("a 4", "1 x4 @a:4 fixed\n2 x4 prio=90"), "wait 2");
  EXPECT_EQ(Round("a 4", "1 x4 @a:4 ran=4m\n2 x4 prio=90"), "wait 2");
  EXPECT_EQ(Round("a 4", "1 x4 @a:4 ran=5m\n2 x4 prio=90"), "preempt 1 | wait 2");
}

// All or nothing: where there would still not be room enough, nobody stops in vain.
TEST(Preemption, OnlyIfItMakesRoomEnough) {
  EXPECT_EQ(Round("a 4\nb 4", "1 x4 @a:4\n2 x4 @b:4 fixed\n3 x5 prio=90"), "wait 3");
  EXPECT_EQ(
      Round("a 4 labels=x\nb 4", "1 x4 @a:4 prio=60\n2 x4 @b:4 prio=10\n3 x4 prio=90 labels=x"),
      "preempt 1 | wait 3");
}

// What those free that are already stopping counts: no more are asked than are needed.
TEST(Preemption, CountsWhatIsComing) {
  EXPECT_EQ(Round("a 8", "1 x4 @a:4 leaving\n2 x4 @a:4\n3 x4 prio=90"), "wait 3");
  EXPECT_EQ(Round("a 8", "1 x4 @a:4 leaving\n2 x4 @a:4\n3 x8 prio=90"), "preempt 2 | wait 3");
}

TEST(Preemption, LowestPriorityFirst) {
  EXPECT_EQ(Round("a 12", "1 x4 @a:4 prio=30\n2 x4 @a:4 prio=10\n3 x4 @a:4 prio=20\n4 x4 prio=90"),
            "preempt 2 | wait 4");
  EXPECT_EQ(Round("a 12", "1 x4 @a:4 prio=30\n2 x4 @a:4 prio=10\n3 x4 @a:4 prio=20\n4 x5 prio=90"),
            "preempt 2 3 | wait 4");
}

// Among equals whoever loses least: workers times what is not saved, with a minute for the restart.
TEST(Preemption, ThenWhoLosesLeast) {
  EXPECT_EQ(Round("a 8", "1 x4 @a:4 unsaved=20m\n2 x4 @a:4 unsaved=10m\n3 x4 prio=90"),
            "preempt 2 | wait 3");
  // 8 x 2 min against 2 x 5 min.
  EXPECT_EQ(Round("a 10", "1 x8 @a:8 unsaved=1m\n2 x2 @a:2 unsaved=4m\n3 x2 prio=90"),
            "preempt 2 | wait 3");
  // Four of 1 x 6 min against one of 4 x 5 min.
  EXPECT_EQ(Round("a 8",
                  "1 x1 @a:1 unsaved=5m\n2 x1 @a:1 unsaved=5m\n3 x1 @a:1 unsaved=5m\n"
                  "4 x1 @a:1 unsaved=5m\n5 x4 @a:4 unsaved=4m\n6 x4 prio=90"),
            "preempt 5 | wait 6");
}

// It is not always the same job that is stopped.
TEST(Preemption, SparesWhoHasBeenPreempted) {
  EXPECT_EQ(Round("a 8", "1 x4 @a:4 unsaved=5m\n2 x4 @a:4 unsaved=4m preempted=1\n3 x4 prio=90"),
            "preempt 1 | wait 3");
}

// Job 1 was taken first, for its priority, but job 2 alone makes room enough.
TEST(Preemption, NobodyWithoutNeed) {
  EXPECT_EQ(Round("a 6", "1 x2 @a:2 prio=10\n2 x4 @a:4 prio=20\n3 x4 prio=90"),
            "preempt 2 | wait 3");
}

// With the fewest workers that are enough for it.
TEST(Preemption, ForTheLeastThatAnElasticJobNeeds) {
  EXPECT_EQ(Round("a 8", "1 x4 @a:4\n2 x4 @a:4 prio=60\n3 x2-8 prio=90"), "preempt 1 | wait 3");
}

// Only the first that cannot start has this right; while its room is being made, others may not
// take it, but may take what it leaves.
TEST(Preemption, OthersDoNotTakeTheRoom) {
  EXPECT_EQ(Round("a 8", "1 x6 @a:6\n2 x4 prio=90\n3 x2\n4 x2 prio=40"),
            "3@a:2 | preempt 1 | wait 2 4");
  EXPECT_EQ(Round("a 8", "1 x6 @a:6 leaving\n2 x8 prio=90\n3 x2 left=1s"), "wait 2 3");
}

TEST(Preemption, GpusOfTheRightNode) {
  EXPECT_EQ(
      Round("a 8 gpus=2\nb 8", "1 x2 @a:2[0+1] gpu prio=40\n2 x8 @b:8 prio=10\n3 x2 gpu prio=90"),
      "preempt 1 | wait 3");
}

TEST(Preemption, SaysWhoNeedsTheSlots) {
  const Decisions decisions = Schedule(ViewOf("a 4", "1 x4 @a:4\n12 x4 prio=90"), {});
  ASSERT_EQ(decisions.yields.size(), 1U);
  EXPECT_EQ(decisions.yields[0].reason, "job-12 (priority 90) needs 4 slots");
}

}  // namespace
}  // namespace fr
