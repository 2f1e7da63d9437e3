#include "worker/data/sample_order.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fr {
namespace {

TEST(SampleOrder, IsAPermutation) {
  for (const std::int64_t count : {1, 2, 3, 15, 16, 17, 1000, 4096, 4097}) {
    const SampleOrder order(1, 0, count);
    std::vector<bool> seen(static_cast<std::size_t>(count), false);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t sample = order[i];
      ASSERT_TRUE(sample >= 0 && sample < count);
      EXPECT_FALSE(seen[static_cast<std::size_t>(sample)]);
      seen[static_cast<std::size_t>(sample)] = true;
    }
  }
}

// Neighbours in the file are not neighbours in training: the mean distance of a random order is a
// third of the count.
TEST(SampleOrder, IsShuffled) {
  constexpr std::int64_t kCount = 100'000;
  const SampleOrder order(1, 0, kCount);
  double distance = 0;
  for (std::int64_t i = 0; i + 1 < kCount; ++i) {
    distance += std::abs(static_cast<double>(order[i + 1] - order[i])) / kCount;
  }
  EXPECT_NEAR(distance / kCount, 1.0 / 3, 0.01);
}

}  // namespace
}  // namespace fr
