// What a job's owner reads while it waits.

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/scheduler/round_text.h"

namespace fr {
namespace {

using ::testing::HasSubstr;

std::string Reason(std::int64_t number, const std::string& nodes, const std::string& jobs,
                   const std::string& users = "", const SchedulerSpec& policy = {}) {
  return ReasonsOf(Schedule(ViewOf(nodes, jobs, users), policy))[number];
}

TEST(WaitReason, OfTheFirst) {
  EXPECT_EQ(Reason(2, "a 8", "1 x5 @a:5 left=130m fixed\n2 x8"),
            "needs 8 slots, 3 are free; first in the queue, expected to start in 2 h 10 min");
  EXPECT_EQ(Reason(2, "a 8", "1 x5 @a:5 fixed\n2 x4-9"),
            "needs at least 4 slots, 3 are free; first in the queue, when others end is not known");
  EXPECT_EQ(Reason(2, "a 8", "1 x5 @a:5\n2 x8 prio=90"),
            "needs 8 slots, 3 are free; first in the queue, starts when job-1 has stopped");
}

TEST(WaitReason, OfThoseBehind) {
  const std::string jobs = "1 x5 @a:5 left=1h fixed\n7 x8\n8 x4\n9 x3\n";
  EXPECT_EQ(Reason(8, "a 8", jobs), "needs 4 slots, 3 are free; behind job-7");
  EXPECT_EQ(Reason(9, "a 8", jobs), "would delay job-7, which is before it and needs 8 slots");
  SchedulerSpec policy;
  policy.set_backfill(false);
  EXPECT_EQ(Reason(9, "a 8", jobs, "", policy), "behind job-7");
}

TEST(WaitReason, OfLimitAndBackOff) {
  EXPECT_EQ(Reason(2, "a 99", "1 x16 @a:16 user=ada\n2 x4 user=ada", "ada max=16"),
            "ada runs 16 workers of at most 16; this job needs 4");
  const char* both = "1 x2 @a:2 user=ada\n2 x2 user=ada waits=4h\n3 x1 user=ada";
  EXPECT_EQ(Reason(2, "a 9", both, "ada max=3"),
            "ada runs 2 workers of at most 3; this job needs 2");
  EXPECT_EQ(Reason(3, "a 9", both, "ada max=3"),
            "ada runs 2 workers of at most 3, job-2 is to have 2; this job needs 1");
  EXPECT_THAT(Reason(1, "a 9", "1 x1 backoff=30s"), HasSubstr("back-off until 19"));
}

TEST(WaitReason, OfLabels) {
  EXPECT_EQ(Reason(3, "a 2 labels=a100\nb 2 labels=a100\nc 2",
                   "1 x2 @a:2 fixed\n2 x2 @b:2 fixed\n3 x1 labels=a100"),
            "needs label a100: 2 nodes have it, both full; first in the queue, when others end is "
            "not known");
  EXPECT_EQ(Reason(1, "a 2 labels=a100 closed\nc 2", "1 x1 labels=a100"),
            "needs label a100: no node that is up has it");
  EXPECT_EQ(Reason(1, "c 2", "1 x1 labels=a100"), "needs label a100: no node has it");
}

// Slots are not all: the number that is missing is the one that is named.
TEST(WaitReason, OfGpusCoresAndMemory) {
  EXPECT_THAT(Reason(2, "a 8 gpus=2", "1 x1 @a:1[0] gpu fixed\n2 x2 gpu"),
              HasSubstr("needs 2 GPUs, 1 is free;"));
  EXPECT_THAT(Reason(2, "a 8 cpus=8", "1 x1 @a:1 cpus=4 fixed\n2 x4 cpus=2"),
              HasSubstr("needs 4 slots with 2 cores each, 2 are free;"));
  EXPECT_THAT(Reason(2, "a 8 mem=64", "1 x1 @a:1 mem=20 fixed\n2 x3 mem=20"),
              HasSubstr("needs 3 slots with 20.0 GiB of memory each, 2 are free;"));
}

// Positions count those who wait; only the first has a time.
TEST(WaitDecision, PositionsAndTimes) {
  const Decisions decisions = Schedule(
      ViewOf("a 8", "1 x5 @a:5 left=1h fixed\n2 x3 prio=10 left=1m\n3 x8\n4 x8 prio=60"), {});
  ASSERT_EQ(TextOf(decisions), "2@a:3 | wait 4 3");
  EXPECT_EQ(decisions.waits[0].position, 1);
  EXPECT_EQ(decisions.waits[1].position, 2);
  EXPECT_EQ(decisions.waits[0].start_ms, kNow + 3'600'000);
  EXPECT_FALSE(decisions.waits[1].start_ms);
}

std::string Never(const std::string& nodes, const std::string& job) {
  const ClusterView view = ViewOf(nodes, job);
  return WhyNever(view.jobs.at(0), view.nodes).value_or("");
}

TEST(WhyNever, NothingWhereItCould) {
  EXPECT_EQ(Never("a 4\nb 4", "1 x8"), "");
  EXPECT_EQ(Never("a 4\nb 4 closed", "1 x8"), "");  // it may open
  EXPECT_EQ(Never("a 4", "1 x2-8"), "");
  EXPECT_EQ(Never("a 4", "1 x4 @a:4"), "");
  EXPECT_EQ(Never("a 4 mem=20", "1 x2-4 mem=99,99,5"), "");  // with four workers
}

TEST(WhyNever, NamesTheObstacle) {
  EXPECT_EQ(Never("a 4\nb 4", "1 x9"), "needs 9 slots, 2 nodes have 8 together");
  EXPECT_EQ(Never("a 4\nb 4", "1 x9-16"), "needs at least 9 slots, 2 nodes have 8 together");
  EXPECT_EQ(Never("a 4\nb 4 labels=x", "1 x5 labels=x"),
            "needs 5 slots, 1 node with label x has 4");
  EXPECT_EQ(Never("a 4", "1 x1 labels=x"), "needs label x: no node has it");
  EXPECT_EQ(Never("a 4 labels=x\nb 4 labels=y", "1 x1 labels=x,y"),
            "needs labels x and y: no node has them (1 has x, 1 has y)");
  EXPECT_EQ(Never("a 8 gpus=2\nb 8", "1 x3 gpu"), "needs 3 GPUs, 2 nodes have 2 together");
  EXPECT_EQ(Never("a 8 cpus=16\nb 8 cpus=8", "1 x1 cpus=32"),
            "a worker takes 32 cores, the largest node has 16");
  EXPECT_EQ(Never("a 8 cpus=16\nb 8 cpus=8", "1 x4 cpus=8"),
            "needs 4 workers with 8 cores each, 2 nodes have room for 3 together");
  EXPECT_EQ(Never("a 8 mem=32\nb 8 mem=64", "1 x1 mem=96"),
            "a worker needs 96.0 GiB of memory, the largest node, b, has 64.0 GiB");
  EXPECT_EQ(Never("a 8 mem=32\nb 8 mem=64", "1 x4 mem=24"),
            "needs 4 workers with 24.0 GiB of memory each, 2 nodes have memory for 3 together");
  EXPECT_EQ(Never("", "1 x1"), "there are no nodes");
}

}  // namespace
}  // namespace fr
