// Jobs with min_workers: they start smaller, grow, and shrink for others.

#include <string>

#include <gtest/gtest.h>

#include "tests/coordinator/scheduler/round_text.h"

namespace fr {
namespace {

TEST(Elastic, StartsWithTheMostThatFit) {
  EXPECT_EQ(Round("a 8", "1 x2-6"), "1@a:6");
  EXPECT_EQ(Round("a 3\nb 2", "1 x2-6"), "1@a:3,b:2");
  EXPECT_EQ(Round("a 1\nb 1", "1 x2-6"), "1@a:1,b:1");
  EXPECT_EQ(Round("a 1", "1 x2-6"), "wait 1");
}

// Fewer workers need more memory each: 4 x 5 fit into 20, neither 2 x 12 nor 3 x 8.
TEST(Elastic, MemoryGoesWithTheNumberOfWorkers) {
  EXPECT_EQ(Round("a 8 mem=20", "1 x2-4 mem=12,8,5"), "1@a:4");
  EXPECT_EQ(Round("a 3 mem=20", "1 x2-4 mem=12,8,5"), "wait 1");
  EXPECT_EQ(Round("a 8 mem=24", "1 x2-4 mem=12,8,7"), "1@a:3");
}

TEST(Growth, TakesSlotsThatNobodyWaitsFor) {
  EXPECT_EQ(Round("a 8", "1 x2-6 @a:3"), "resize 1");
  EXPECT_EQ(Round("a 3", "1 x2-6 @a:3"), "");
  EXPECT_EQ(Round("a 8", "1 x2-6 @a:6"), "");
  EXPECT_EQ(Round("a 8 gpus=4", "1 x2-6 @a:4[0+1+2+3] gpu"), "");
}

// A restart costs a minute: growing must save two. Twice the workers: from 8 minutes to 4; from 3
// to 1.5 it does not pay. What is not known is believed to be long.
TEST(Growth, MustPayOff) {
  EXPECT_EQ(Round("a 8", "1 x2-4 @a:2 left=4m"), "resize 1");
  EXPECT_EQ(Round("a 8", "1 x2-4 @a:2 left=1.5m"), "");
}

TEST(Growth, WaitsForTheMinimalRunTime) {
  EXPECT_EQ(Round("a 8", "1 x2-4 @a:2 ran=4m"), "");
  EXPECT_EQ(Round("a 8", "1 x2-4 @a:2 ran=5m"), "resize 1");
  EXPECT_EQ(Round("a 8", "1 x2-4 @a:2 leaving"), "");
}

// In the moment in which job 1 has stopped, job 2 must not be able to take its slots: with them,
// six would be free. Where it waits for something else, job 1 grows.
TEST(Growth, NotWhereAWaitingJobCouldTakeItsPlace) {
  EXPECT_EQ(Round("a 8", "1 x2-6 @a:2\n3 x2 @a:2 ran=0s\n2 x6 prio=40"), "wait 2");
  EXPECT_EQ(Round("a 8\nb 2 gpus=2", "1 x2-6 @a:4\n3 x2 gpu @b:2[0+1]\n2 x2 gpu"),
            "resize 1 | wait 2");
}

// What is free is set aside for the first that waits, not there for growing.
TEST(Growth, NotIntoWhatIsSetAside) {
  EXPECT_EQ(Round("a 8", "1 x2-6 @a:2 fixed\n2 x3 @a:3 fixed left=1h\n3 x6 prio=10"), "wait 3");
}

// Five slots are free: enough for one of the two, and the one of higher priority goes first.
TEST(Growth, TwoDoNotCountOnTheSameSlots) {
  EXPECT_EQ(Round("a 9", "1 x2-7 @a:2 prio=40\n2 x2-7 @a:2 prio=60"), "resize 2");
  EXPECT_EQ(Round("a 9", "1 x2-7 @a:2 prio=40\n2 x2-7 @a:2 prio=60 leaving resizing"), "");
}

TEST(Growth, StaysWithinTheOwnersLimit) {
  EXPECT_EQ(Round("a 8", "1 x2-6 @a:3 user=ada", {}, "ada max=3"), "");
  EXPECT_EQ(Round("a 8", "1 x2-6 @a:3 user=ada", {}, "ada max=4"), "resize 1");
  // Once job 1 has stopped, job 2 may have what it had of the limit, and is before it.
  const std::string ada = "1 x2-4 @a:2 user=ada\n2 x3 user=ada waits=1h\n";
  EXPECT_EQ(Round("a 8", ada, {}, "ada max=4"), "wait 2");
  EXPECT_EQ(Round("a 8", ada + "3 x2-4 @a:2 user=eve", {}, "ada max=4"), "resize 3 | wait 2");
}

// Job 1 gives up four of its eight: enough, and nobody is preempted, though that could be too.
TEST(Shrink, BeforeAnyoneIsPreempted) {
  EXPECT_EQ(Round("a 12", "1 x4-8 @a:8\n2 x4 @a:4\n3 x4 prio=90"), "resize 1 | wait 3");
}

TEST(Shrink, OnlyWhereItMakesRoomEnough) {
  EXPECT_EQ(Round("a 12", "1 x4-8 @a:8\n2 x4 @a:4\n3 x5 prio=90"), "preempt 1 | wait 3");
  EXPECT_EQ(Round("a 8", "1 x4-8 @a:8\n2 x5 prio=55"), "wait 2");
}

// Whoever comes first in the queue: priority need not differ by the gap of preemption.
TEST(Shrink, ForJobsThatComeFirst) {
  EXPECT_EQ(Round("a 8", "1 x4-8 @a:8\n2 x4 prio=51"), "resize 1 | wait 2");
  EXPECT_EQ(Round("a 8", "1 x4-8 @a:8\n2 x4 prio=49"), "wait 2");
  EXPECT_EQ(Round("a 8", "1 x4-8 @a:8\n2 x4 prio=49 waits=2h"), "resize 1 | wait 2");
}

TEST(Shrink, RespectsMinimalRunTimeAndWhoIsFixed) {
  EXPECT_EQ(Round("a 8", "1 x4-8 @a:8 ran=1m\n2 x4 prio=90"), "wait 2");
  EXPECT_EQ(Round("a 8", "1 x4-8 @a:8 fixed\n2 x4 prio=90"), "wait 2");
}

// The fewest that do: of the lowest priority first, and none that is not needed.
TEST(Shrink, NoMoreThanNeeded) {
  const std::string jobs = "1 x2-4 @a:4 prio=30\n2 x2-4 @a:4 prio=20\n3 x2-8 @a:8 prio=40\n";
  EXPECT_EQ(Round("a 16", jobs + "4 x2 prio=90"), "resize 2 | wait 4");
  EXPECT_EQ(Round("a 16", jobs + "4 x4 prio=90"), "resize 1 2 | wait 4");
  EXPECT_EQ(Round("a 16", jobs + "4 x6 prio=90"), "resize 3 | wait 4");
}

// Stopped to be resized, job 1 goes on beside the one it made room for, before job 3, which has the
// higher priority but no right to its slots.
TEST(Resized, GoesOnBeforeOthersTakeItsPlace) {
  EXPECT_EQ(Round("a 8", "1 x4-8 resizing\n2 x4 prio=60\n3 x4 prio=55"), "1@a:4 2@a:4 | wait 3");
}

// The one it made room for has as much as both can have, and job 1 the rest.
TEST(Resized, KeepsItsLeast) {
  EXPECT_EQ(Round("a 8", "1 x2-8 resizing\n2 x4-8 prio=60"), "1@a:2 2@a:6");
}

// Where there is not room for both any more, the one with the higher priority goes first.
TEST(Resized, NotAgainstTheOrderOfTheQueue) {
  EXPECT_EQ(Round("a 7", "1 x4-8 resizing\n2 x4 prio=60"), "2@a:4 | wait 1");
}

// After job 1 stopped, job 4 is still to stop: then there is room for 2, and job 1 leaves it.
TEST(Resized, LeavesRoomThatIsYetToCome) {
  EXPECT_EQ(Round("a 12", "1 x2-6 resizing\n4 x2-6 @a:6 leaving\n2 x8 prio=60"), "1@a:4 | wait 2");
}

}  // namespace
}  // namespace fr
