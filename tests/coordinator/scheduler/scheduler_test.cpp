#include "coordinator/scheduler/scheduler.h"

#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace fr {
namespace {

// "1@a:2,b:1 3@b:1": which job starts with how many workers where.
std::string Plan(const std::vector<WaitingJob>& queue, const std::vector<FreeNode>& nodes) {
  std::string text;
  for (const Placement& placement : Schedule(queue, nodes)) {
    if (!text.empty()) text += ' ';
    text += fmt::format("{}@", placement.number);
    for (const NodeSlots& slots : placement.slots) {
      text += fmt::format("{}{}:{}", text.back() == '@' ? "" : ",", slots.node(), slots.slots());
    }
  }
  return text;
}

TEST(Schedule, FirstComeFirstServed) {
  EXPECT_EQ(Plan({{2, 50, 1}, {1, 50, 1}, {3, 50, 1}}, {{"a", 2, 4}}), "1@a:1 2@a:1");
}

TEST(Schedule, HigherPriorityFirst) {
  EXPECT_EQ(Plan({{1, 50, 1}, {2, 90, 1}}, {{"a", 1, 4}}), "2@a:1");
}

// All workers of a job or none: half a job would wait for ever and hold its slots.
TEST(Schedule, AJobStartsAsAWhole) {
  EXPECT_EQ(Plan({{1, 50, 3}}, {{"a", 1, 4}, {"b", 1, 4}}), "");
  EXPECT_EQ(Plan({{1, 50, 3}}, {{"a", 1, 4}, {"b", 2, 4}}), "1@b:2,a:1");
}

// Small jobs do not slip past a large one for ever.
TEST(Schedule, WhoDoesNotFitHoldsBackThoseBehind) {
  EXPECT_EQ(Plan({{1, 50, 4}, {2, 50, 1}}, {{"a", 2, 4}}), "");
  EXPECT_EQ(Plan({{1, 50, 1}, {2, 50, 4}, {3, 50, 1}}, {{"a", 2, 4}}), "1@a:1");
}

// Fewest nodes: the freest is filled first.
TEST(Schedule, AJobSpansAsFewNodesAsItCan) {
  EXPECT_EQ(Plan({{1, 50, 4}}, {{"a", 1, 4}, {"b", 4, 4}, {"c", 3, 4}}), "1@b:4");
}

// What can never start waits for another configuration, not in others' way.
TEST(Schedule, WhoCanNeverFitHoldsBackNobody) {
  EXPECT_EQ(Plan({{1, 50, 9}, {2, 50, 1}}, {{"a", 2, 4}, {"b", 4, 4}}), "2@b:1");
}

TEST(Schedule, NothingFromNothing) {
  EXPECT_EQ(Plan({}, {{"a", 2, 4}}), "");
  EXPECT_EQ(Plan({{1, 50, 1}}, {}), "");
}

}  // namespace
}  // namespace fr
