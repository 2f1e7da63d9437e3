// Where the workers of a job go.

#include <gtest/gtest.h>

#include "tests/coordinator/scheduler/round_text.h"

namespace fr {
namespace {

// Half a job would wait for ever and hold its slots.
TEST(Placement, AllWorkersOrNone) {
  EXPECT_EQ(Round("a 1\nb 1", "1 x3"), "wait 1");
  EXPECT_EQ(Round("a 1\nb 2", "1 x3"), "1@a:1,b:2");
}

// The fullest node that can take the job: the large hole stays for a large job.
TEST(Placement, OneNodeTheFullestThatFits) {
  EXPECT_EQ(Round("a 8\nb 4\nc 3\nd 2", "1 x3"), "1@c:3");
  EXPECT_EQ(Round("a 8\nb 8", "1 x4 @b:4\n2 x3"), "2@b:3");
}

// From the freest on, and the rest on the fullest that can take it.
TEST(Placement, AsFewNodesAsPossible) {
  EXPECT_EQ(Round("a 4\nb 4\nc 1\nd 2", "1 x6"), "1@a:4,d:2");
}

// Two nodes of one rack rather than one and a half of two; three of one rather than two of two.
TEST(Placement, WithinOneGroupWhereOneCan) {
  EXPECT_EQ(Round("a 8 group=r1\nb 8 group=r2\nc 4 group=r2", "1 x12"), "1@b:8,c:4");
  EXPECT_EQ(Round("a 8 group=r1\nb 4 group=r2\nc 4 group=r2\nd 4 group=r2", "1 x12"),
            "1@b:4,c:4,d:4");
}

// Of the groups that can, the one that needs the fewest nodes, then the fullest.
TEST(Placement, TheBestGroup) {
  EXPECT_EQ(Round("a 2 group=r1\nb 2 group=r1\nc 2 group=r1\nd 3 group=r2\ne 3 group=r2", "1 x6"),
            "1@d:3,e:3");
  EXPECT_EQ(Round("a 3 group=r1\nb 3 group=r1\nc 1 group=r1\nd 3 group=r2\ne 3 group=r2", "1 x6"),
            "1@d:3,e:3");
}

// Neither r1 nor r2 nor r3 holds ten: two do, and the smaller of the two that can complete them.
TEST(Placement, ElseOverTheFewestGroups) {
  EXPECT_EQ(Round("a 4 group=r1\nb 4 group=r1\nc 4 group=r2\nd 2 group=r3\ne 1 group=r4", "1 x10"),
            "1@a:4,b:4,d:2");
}

TEST(Placement, OnlyOpenNodes) {
  EXPECT_EQ(Round("a 4 closed\nb 2", "1 x2"), "1@b:2");
  EXPECT_EQ(Round("a 4 closed\nb 2", "1 x3"), "wait 1");
}

// Slots are taken on closed nodes too, and on nodes that are gone none is.
TEST(Placement, CountsWhatRuns) {
  EXPECT_EQ(Round("a 4\nb 4 closed", "1 x3 @b:3\n2 x3 @gone:3\n3 x4"), "3@a:4");
  EXPECT_EQ(Round("a 4", "1 x3 @a:3\n2 x1\n3 x1"), "2@a:1 | wait 3");
}

// A node that was made smaller than what runs there has no room, and takes none from others.
TEST(Placement, OverfullNodes) {
  EXPECT_EQ(Round("a 2\nb 2", "1 x4 @a:4\n2 x2\n3 x1"), "2@b:2 | wait 3");
}

TEST(Placement, OnlyNodesWithAllLabels) {
  EXPECT_EQ(Round("a 4 labels=x\nb 4 labels=x,y\nc 4", "1 x2 labels=x,y"), "1@b:2");
  EXPECT_EQ(Round("a 4 labels=x\nb 4 labels=x,y", "1 x6 labels=x"), "1@a:4,b:2");
}

// A node's name is one of its labels.
TEST(Placement, OnANodeByName) { EXPECT_EQ(Round("a 4\nb 2", "1 x2 labels=a"), "1@a:2"); }

TEST(Placement, OneGpuEach) {
  EXPECT_EQ(Round("a 8 gpus=2\nb 8 gpus=4", "1 x3 gpu"), "1@b:3[0+1+2]");
  EXPECT_EQ(Round("a 8 gpus=2\nb 8 gpus=4", "1 x5 gpu"), "1@a:1[0],b:4[0+1+2+3]");
}

// The exact numbers that nobody has.
TEST(Placement, FreeGpusByNumber) {
  EXPECT_EQ(Round("a 8 gpus=4", "1 x2 @a:2[0+2] gpu\n2 x2 gpu\n3 x1 gpu"), "2@a:2[1+3] | wait 3");
}

// Who takes no GPU leaves them to those who do, where there is a choice.
TEST(Placement, GpuNodesAreSpared) {
  EXPECT_EQ(Round("a 4 gpus=4\nb 8", "1 x2"), "1@b:2");
  EXPECT_EQ(Round("a 4 gpus=4\nb 1", "1 x2"), "1@a:2");
}

TEST(Placement, Cores) {
  EXPECT_EQ(Round("a 8 cpus=8\nb 8 cpus=32", "1 x4 cpus=4"), "1@b:4");
  EXPECT_EQ(Round("a 8 cpus=8", "1 x1 @a:1 cpus=6\n2 x2 cpus=2"), "wait 2");
  EXPECT_EQ(Round("a 8 cpus=8", "1 x1 @a:1 cpus=6\n2 x1 cpus=2"), "2@a:1");
  EXPECT_EQ(Round("a 8", "1 x8 cpus=100"), "1@a:8");  // not counted there
}

TEST(Placement, Memory) {
  EXPECT_EQ(Round("a 8 mem=10\nb 8 mem=40", "1 x4 mem=6"), "1@b:4");
  EXPECT_EQ(Round("a 8 mem=10\nb 8 mem=40", "1 x7 mem=6"), "1@a:1,b:6");
  EXPECT_EQ(Round("a 8 mem=10", "1 x1 @a:1 mem=6\n2 x1 mem=6"), "wait 2");
  EXPECT_EQ(Round("a 8 mem=10", "1 x1 @a:1 mem=6\n2 x1 mem=4"), "2@a:1");
}

// What runs takes memory by its own world size: two workers 4 GiB each, one alone 9.
TEST(Placement, MemoryByWorldSize) {
  EXPECT_EQ(Round("a 8 mem=20", "1 x1-4 @a:2 ran=0s mem=9,4,3,2\n2 x1 mem=12"), "2@a:1");
  EXPECT_EQ(Round("a 8 mem=20", "1 x1-4 @a:1 ran=0s mem=9,4,3,2\n2 x1 mem=12"), "wait 2");
}

}  // namespace
}  // namespace fr
