#include "common/sharding/shard_plan.h"

#include <algorithm>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"

namespace fr {
namespace {

constexpr std::int64_t kGiB = std::int64_t{1} << 30;

// Every identity has exactly one owner, whatever the world looks like.
TEST(PlanShards, CoversEveryIdentityOnce) {
  for (const int ranks : {1, 2, 3, 7, 64}) {
    const ShardPlan plan = PlanShards(85'742, 4'096, std::vector<std::int64_t>(ranks, 8 * kGiB));
    ASSERT_EQ(plan.ranges.size(), static_cast<std::size_t>(ranks));
    std::int64_t next = 0;
    for (const IdentityRange& range : plan.ranges) {
      EXPECT_EQ(range.begin, next);
      next = range.end;
    }
    EXPECT_EQ(next, 85'742);
    EXPECT_NO_THROW(CheckShardPlan(plan));
    EXPECT_EQ(FromProto(ToProto(plan)), plan);
  }
}

TEST(PlanShards, EqualCapacitiesDifferByOneAtMost) {
  const ShardPlan plan = PlanShards(103, 1, std::vector<std::int64_t>(8, 1000));
  for (const IdentityRange& range : plan.ranges)
    EXPECT_TRUE(range.size() == 12 || range.size() == 13);
}

TEST(PlanShards, FollowsCapacity) {
  const ShardPlan plan = PlanShards(1'000'000, 4, {3 * kGiB, kGiB});
  EXPECT_EQ(plan.ranges[0].size(), 750'000);
}

// More ranks than identities: some own nothing.
TEST(PlanShards, ARankMayOwnNothing) {
  const ShardPlan plan = PlanShards(2, 1, {10, 10, 10});
  EXPECT_EQ(plan.ranges[0].size() + plan.ranges[1].size() + plan.ranges[2].size(), 2);
}

TEST(PlanShards, SaysHowManyBytesLack) {
  try {
    PlanShards(100, 10, {400, 500});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kResourceExhausted);
    EXPECT_THAT(error.what(), testing::HasSubstr("100 bytes lack"));
  }
  EXPECT_THROW(PlanShards(100, 10, {}), Error);
  EXPECT_THROW(PlanShards(0, 10, {100}), Error);
  EXPECT_THROW(PlanShards(1, 1, {100, -1}), Error);
}

TEST(CheckShardPlan, RefusesGapsAndOverlaps) {
  EXPECT_THROW(CheckShardPlan({10, 1, {{0, 4}, {5, 10}}}), Error);
  EXPECT_THROW(CheckShardPlan({10, 1, {{0, 6}, {5, 10}}}), Error);
  EXPECT_THROW(CheckShardPlan({10, 1, {{0, 9}}}), Error);
  EXPECT_THROW(CheckShardPlan({0, 1, {}}), Error);
  EXPECT_NO_THROW(CheckShardPlan({10, 1, {{0, 10}, {10, 10}}}));
}

// Whatever number of ranks wrote, any range is put together from slices in order.
TEST(PlanReshard, PutsAnyRangeTogether) {
  for (const int old_ranks : {1, 2, 3, 5}) {
    const ShardPlan old_plan = PlanShards(101, 1, std::vector<std::int64_t>(old_ranks, 1000));
    for (const int new_ranks : {1, 2, 4}) {
      for (const IdentityRange& wanted :
           PlanShards(101, 1, std::vector<std::int64_t>(new_ranks, 1000)).ranges) {
        std::int64_t next = wanted.begin;
        for (const ShardSlice& slice : PlanReshard(old_plan.ranges, wanted)) {
          EXPECT_EQ(slice.part.begin, next);
          EXPECT_GT(slice.part.size(), 0);
          const IdentityRange& source = old_plan.ranges[static_cast<std::size_t>(slice.source)];
          EXPECT_LE(source.begin, slice.part.begin);
          EXPECT_GE(source.end, slice.part.end);
          next = slice.part.end;
        }
        EXPECT_EQ(next, wanted.end);
      }
    }
  }
  EXPECT_TRUE(PlanReshard({{0, 10}}, {5, 5}).empty());
  EXPECT_THROW(PlanReshard({{0, 4}, {6, 10}}, {2, 8}), Error);
}

}  // namespace
}  // namespace fr
