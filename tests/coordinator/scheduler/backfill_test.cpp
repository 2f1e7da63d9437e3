// Who may go before the first that cannot start, and what is set aside for that one.

#include <string>

#include <gtest/gtest.h>

#include "tests/coordinator/scheduler/round_text.h"

namespace fr {
namespace {

TEST(Backfill, CanBeOff) {
  SchedulerSpec policy;
  policy.set_backfill(false);
  EXPECT_EQ(Round("a 8", "1 x6 @a:6 left=1h fixed\n2 x4\n3 x1 left=1m", policy), "wait 2 3");
}

// Job 2 can start in an hour, when job 1 ends. What ends before is not in its way, what does not
// is, where it needs all slots.
TEST(Backfill, WhatEndsInTimeGoesFirst) {
  const std::string jobs = "1 x6 @a:6 left=60m fixed\n2 x8\n";
  EXPECT_EQ(Round("a 8", jobs + "3 x2 left=59m"), "3@a:2 | wait 2");
  EXPECT_EQ(Round("a 8", jobs + "3 x2 left=61m"), "wait 2 3");
  EXPECT_EQ(Round("a 8", jobs + "3 x2"), "wait 2 3");  // its end is not known
}

// With half its workers an elastic job takes twice as long: too long here, in time there.
TEST(Backfill, CountsTheWorkersThatItGets) {
  EXPECT_EQ(Round("a 8", "1 x6 @a:6 left=60m fixed\n2 x8\n3 x2-4 left=40m"), "wait 2 3");
  EXPECT_EQ(Round("a 8", "1 x6 @a:6 left=60m fixed\n2 x8\n3 x2-4 left=20m"), "3@a:2 | wait 2");
  EXPECT_EQ(Round("a 8", "1 x4-6 @a:4 left=60m fixed\n4 x2 @a:2 ran=0s\n2 x6\n3 x2 left=80m"),
            "3@a:2 | wait 2");
}

// In an hour eight slots are free, of which job 2 needs six: job 3 may take two, job 4 none.
TEST(Backfill, WhatTheFirstWillNotNeedIsThereForAll) {
  EXPECT_EQ(Round("a 8", "1 x4 @a:4 left=1h fixed\n2 x6\n3 x2\n4 x1"), "3@a:2 | wait 2 4");
}

// The first may get its slots on node a, so that b is there for others.
TEST(Backfill, OtherNodesAreFree) {
  EXPECT_EQ(Round("a 4\nb 4", "1 x4 @a:4 left=1h fixed\n2 x5 prio=60 labels=a\n3 x4"),
            "3@b:4 | wait 2");
  EXPECT_EQ(Round("a 4\nb 2", "1 x2 @a:2 left=1h fixed\n2 x4 labels=a\n3 x2"), "3@b:2 | wait 2");
}

// Whoever needs no GPU may take the slots that the first has no GPUs for.
TEST(Backfill, SlotsBesideGpus) {
  EXPECT_EQ(Round("a 8 gpus=2", "1 x1 @a:1[0] gpu left=1h fixed\n2 x2 gpu\n3 x7\n4 x6"),
            "4@a:6 | wait 2 3");
}

// Nobody knows when others end: the node with most free slots is set aside, here a; b is not.
TEST(Backfill, WithoutATimeTheFreestNodesAreSetAside) {
  const std::string jobs = "1 x2 @a:2 fixed\n2 x3 @b:3 fixed\n3 x4\n";
  EXPECT_EQ(Round("a 4\nb 4", jobs + "4 x1"), "4@b:1 | wait 3");
  EXPECT_EQ(Round("a 4\nb 4", jobs + "4 x2 left=1m"), "wait 3 4");
}

// The later one of job 1 and 2 counts, and what takes longer than was predicted may end any time.
TEST(Backfill, UntilTheFirstFits) {
  const std::string nodes = "a 4";
  EXPECT_EQ(Round(nodes, "1 x1 @a:1 left=1h fixed\n2 x2 @a:2 left=2h fixed\n3 x4\n4 x1 left=119m"),
            "4@a:1 | wait 3");
  EXPECT_EQ(Round(nodes, "1 x1 @a:1 left=1h fixed\n2 x2 @a:2 left=2h fixed\n3 x4\n4 x1 left=121m"),
            "wait 3 4");
  EXPECT_EQ(Round(nodes, "1 x3 @a:3 left=0s fixed\n3 x4\n4 x1 left=1m"), "wait 3 4");
}

// For four hours predictions are trusted. Then nothing goes first that could be in the way; on node
// b it cannot.
TEST(Backfill, PatienceHasAnEnd) {
  const std::string nodes = "a 4\nb 1";
  const std::string running = "1 x2 @a:2 left=1h ran=9h fixed\n";
  const std::string others = "\n3 x1 left=1m\n4 x1 left=1m labels=a";
  EXPECT_EQ(Round(nodes, running + "2 x4 labels=a waits=3.9h" + others), "3@b:1 4@a:1 | wait 2");
  EXPECT_EQ(Round(nodes, running + "2 x4 labels=a waits=4h" + others), "3@b:1 | wait 2 4");
}

// The four hours begin when nobody is before it any more: job 1, which was, started an hour ago.
TEST(Backfill, PatienceBeginsAtTheHeadOfTheQueue) {
  EXPECT_EQ(Round("a 4",
                  "1 x2 @a:2 prio=90 waits=9h left=1h ran=1h fixed\n"
                  "2 x4 waits=9h\n3 x1 left=1m"),
            "3@a:1 | wait 2");
  EXPECT_EQ(Round("a 4",
                  "1 x2 @a:2 prio=10 waits=9h left=1h ran=1h fixed\n"
                  "2 x4 waits=9h\n3 x1 left=1m"),
            "wait 2 3");
}

// What could never start, or not on the nodes that are up, has no place that others keep free.
TEST(Backfill, TheImpossibleHoldsNobodyBack) {
  SchedulerSpec policy;
  policy.set_backfill(false);
  EXPECT_EQ(Round("a 4", "1 x5\n2 x4", policy), "2@a:4 | wait 1");
  EXPECT_EQ(Round("a 4\nb 4 closed", "1 x5\n2 x4", policy), "2@a:4 | wait 1");
  EXPECT_EQ(Round("a 4\nb 4 closed labels=x", "1 x1 labels=x\n2 x4", policy), "2@a:4 | wait 1");
}

}  // namespace
}  // namespace fr
