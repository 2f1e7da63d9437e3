// Triplets that the kernel mines beside MineAnchor's, whose own tests say what these are: the same
// triplets, so that it does not matter what a rank computes on.

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/base/random.h"
#include "worker/gpu/kernels/kernels.h"
#include "worker/heads/triplet_mining.h"

namespace fr {
namespace {

constexpr double kMargin = 0.25;
constexpr std::uint64_t kKey = 77;

// Distances of some of a batch's images, the anchors, to all of it.
struct Batch {
  std::int64_t size = 0;
  std::int64_t first = 0;  // anchor
  std::int64_t anchors = 0;
  std::vector<std::int64_t> labels;
  std::vector<float> distances;  // [anchors][size]

  std::span<const float> Row(std::int64_t anchor) const {
    return std::span(distances).subspan(static_cast<std::size_t>(anchor * size),
                                        static_cast<std::size_t>(size));
  }
};

// `steps`: how many different distances there are between 0 and 2; few make many ties.
Batch RandomBatch(std::int64_t size, std::int64_t identities, std::int64_t steps) {
  Random random(static_cast<std::uint64_t>(size));
  Batch batch;
  batch.size = size;
  batch.anchors = std::min<std::int64_t>(size, 12);
  batch.first = size - batch.anchors;
  for (std::int64_t i = 0; i < size; ++i) batch.labels.push_back(random.Below(identities));
  for (std::int64_t i = 0; i < batch.anchors * size; ++i) {
    const auto step = static_cast<float>(random.Below(steps));
    batch.distances.push_back(2 * step / static_cast<float>(steps));
  }
  return batch;
}

// Gives the sums over all anchors.
TripletSums ExpectTheSameTriplets(const Batch& batch, TripletMining mining) {
  const auto anchors = static_cast<std::size_t>(batch.anchors);
  std::vector<float> coefficients(batch.distances.size(), 0.0F);
  std::vector<double> sums(6 * anchors, NAN);
  GpuMining work;
  work.mining = static_cast<int>(mining);
  work.margin = kMargin;
  work.key = kKey;
  work.anchors = batch.anchors;
  work.first = batch.first;
  work.batch = batch.size;
  work.distances = batch.distances.data();
  work.labels = batch.labels.data();
  work.coefficients = coefficients.data();
  work.sums = sums.data();
  emulated_gpu::kKernels.mine(work, nullptr);

  TripletSums all;
  std::vector<float> expected(batch.distances.size(), 0.0F);
  for (std::int64_t anchor = 0; anchor < batch.anchors; ++anchor) {
    const auto begin = static_cast<std::size_t>(anchor * batch.size);
    const TripletSums own =
        MineAnchor({mining, kMargin, kKey}, {batch.first + anchor, batch.Row(anchor), batch.labels},
                   std::span(expected).subspan(begin, static_cast<std::size_t>(batch.size)));
    const double* mined = sums.data() + 6 * anchor;
    // Added up in another order.
    EXPECT_NEAR(mined[0], own.loss, 1e-12 * own.loss) << "anchor " << anchor;
    EXPECT_EQ(mined[1], own.chosen) << "anchor " << anchor;
    EXPECT_EQ(mined[2], own.active) << "anchor " << anchor;
    EXPECT_EQ(mined[3], own.candidates) << "anchor " << anchor;
    EXPECT_EQ(mined[4], own.anchors) << "anchor " << anchor;
    EXPECT_EQ(mined[5], own.nearest_own) << "anchor " << anchor;
    all += own;
  }
  EXPECT_EQ(coefficients, expected);
  return all;
}

class MiningKernel : public testing::TestWithParam<TripletMining> {};

TEST_P(MiningKernel, MinesWhatMineAnchorDoes) {
  for (const std::int64_t size : {1, 5, 130, 300}) {
    SCOPED_TRACE(size);
    const TripletSums sums =
        ExpectTheSameTriplets(RandomBatch(size, 1 + size / 20, 1'000'000), GetParam());
    if (size < 100) continue;
    EXPECT_GT(sums.active, 0) << "a test of nothing";
    EXPECT_GT(sums.anchors, 0);
  }
}

// Of equals the first in the batch counts; a negative is often as far as the positive, or as the
// positive and the margin.
TEST_P(MiningKernel, BreaksTiesAlike) {
  for (const std::int64_t steps : {1, 8, 16}) {
    for (const std::int64_t size : {5, 130, 300}) {
      SCOPED_TRACE(testing::Message() << steps << " distances, batch " << size);
      ExpectTheSameTriplets(RandomBatch(size, 1 + size / 20, steps), GetParam());
    }
  }
}

// Of embeddings that are well trained: many triplets cost nothing. With every anchor negatives are
// farther; those of the fifth are just at the margin.
TEST_P(MiningKernel, CountsWhatCostsNothingAsMineAnchorDoes) {
  Batch batch = RandomBatch(130, 7, 32);
  for (std::size_t at = 0; at < batch.distances.size(); ++at) {
    const std::size_t anchor = at / 130;
    const bool own =
        batch.labels[at % 130] == batch.labels[static_cast<std::size_t>(batch.first) + anchor];
    batch.distances[at] = batch.distances[at] / 4 + (own ? 0 : 0.5F + 0.0625F * anchor);
  }
  const TripletSums sums = ExpectTheSameTriplets(batch, GetParam());
  EXPECT_LT(sums.active, sums.candidates);
  EXPECT_GT(sums.active, 0) << "a test of nothing";
}

TEST_P(MiningKernel, FindsNoTripletWithoutPositives) {
  Batch batch = RandomBatch(130, 2, 20);
  for (std::size_t i = 0; i < batch.labels.size(); ++i) {
    batch.labels[i] = static_cast<std::int64_t>(i);
  }
  const TripletSums sums = ExpectTheSameTriplets(batch, GetParam());
  EXPECT_EQ(sums.chosen, 0);
  EXPECT_EQ(sums.anchors, 0);
}

TEST_P(MiningKernel, FindsNoTripletWithoutNegatives) {
  const TripletSums sums = ExpectTheSameTriplets(RandomBatch(130, 1, 20), GetParam());
  EXPECT_EQ(sums.chosen, 0);
  EXPECT_EQ(sums.anchors, 12);
  EXPECT_EQ(sums.nearest_own, 12);
}

// Every image is an anchor once, whichever rank has it.
TEST_P(MiningKernel, AnchorsMayBeAnyPartOfTheBatch) {
  Batch batch = RandomBatch(130, 10, 20);
  for (const std::int64_t first : {0, 59, 118}) {
    batch.first = first;
    ExpectTheSameTriplets(batch, GetParam());
  }
}

std::string NameOf(const testing::TestParamInfo<TripletMining>& info) {
  return info.param == TripletMining::kSemiHard ? "SemiHard"
         : info.param == TripletMining::kHard   ? "Hard"
                                                : "All";
}
INSTANTIATE_TEST_SUITE_P(Minings, MiningKernel,
                         testing::Values(TripletMining::kSemiHard, TripletMining::kHard,
                                         TripletMining::kAll),
                         NameOf);

}  // namespace
}  // namespace fr
