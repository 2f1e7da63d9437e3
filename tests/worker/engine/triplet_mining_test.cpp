// Which triplets are trained on, from distances made by hand. The same on every rank.

#include "worker/heads/triplet_mining.h"

#include <vector>

#include <gtest/gtest.h>

namespace fr {
namespace {

constexpr double kMargin = 0.25;  // exact in binary, as the distances are

struct Mined {
  TripletSums sums;
  std::vector<float> coefficients;
};

// Image 0 is the anchor, of identity 0.
Mined Mine(TripletMining mining, const std::vector<float>& distances,
           const std::vector<std::int64_t>& labels, std::uint64_t key = 0) {
  Mined mined{{}, std::vector<float>(distances.size())};
  mined.sums = MineAnchor({mining, kMargin, key}, {0, distances, labels}, mined.coefficients);
  return mined;
}

// FaceNet's definition: |a - p|^2 < |a - n|^2 < |a - p|^2 + margin, both strictly.
TEST(TripletMining, SemiHardIsBeyondThePositiveAndWithinTheMargin) {
  const auto chosen = [](float negative) {
    return Mine(TripletMining::kSemiHard, {0, 1, negative}, {0, 0, 1}).sums.chosen;
  };
  EXPECT_EQ(chosen(0.5F), 0) << "nearer than the positive: hard";
  EXPECT_EQ(chosen(1), 0) << "as near as the positive";
  EXPECT_EQ(chosen(1.125F), 1);
  EXPECT_EQ(chosen(1.25F), 0) << "at the margin: costs nothing";
  EXPECT_EQ(chosen(1.5F), 0) << "beyond the margin";

  const Mined mined = Mine(TripletMining::kSemiHard, {0, 1, 1.125F}, {0, 0, 1});
  EXPECT_EQ(mined.sums.loss, 1 - 1.125 + kMargin);
  EXPECT_EQ(mined.sums.active, 1);
  EXPECT_EQ(mined.coefficients, (std::vector<float>{0, -1, 1}));
}

// Every positive gets one negative: any of the band, depending on the key; with one key always the
// same.
TEST(TripletMining, SemiHardDrawsOneNegativeForEachPositive) {
  const std::vector<float> distances{0, 1, 1.0625F, 1.125F, 1.1875F, 0.5F, 3};
  const std::vector<std::int64_t> labels{0, 0, 1, 2, 3, 4, 5};
  std::vector<int> drawn(labels.size());
  for (std::uint64_t key = 0; key < 3000; ++key) {
    const Mined mined = Mine(TripletMining::kSemiHard, distances, labels, key);
    EXPECT_EQ(mined.sums.candidates, 1);
    EXPECT_EQ(mined.sums.chosen, 1);
    for (std::size_t i = 2; i < labels.size(); ++i) drawn[i] += mined.coefficients[i] == 1 ? 1 : 0;
    EXPECT_EQ(Mine(TripletMining::kSemiHard, distances, labels, key).coefficients,
              mined.coefficients);
  }
  EXPECT_EQ(drawn[2] + drawn[3] + drawn[4], 3000);
  for (const int n : {2, 3, 4}) EXPECT_NEAR(drawn[n], 1000, 130) << n;  // 5 standard deviations
}

// A negative that is not drawn may come or go: rounding at the band's edge does not change what the
// others get.
TEST(TripletMining, ADrawDependsOnTheDrawnAlone) {
  const std::vector<std::int64_t> labels{0, 0, 1, 2};
  int changed = 0;
  for (std::uint64_t key = 0; key < 100; ++key) {
    const Mined both = Mine(TripletMining::kSemiHard, {0, 1, 1.0625F, 1.125F}, labels, key);
    const Mined one = Mine(TripletMining::kSemiHard, {0, 1, 1.0625F, 1.5F}, labels, key);
    if (both.coefficients[2] == 1) {
      EXPECT_EQ(one.coefficients, both.coefficients);
    } else {
      ++changed;
    }
  }
  EXPECT_GT(changed, 20);
  EXPECT_LT(changed, 80);
}

// Batch hard: one triplet an anchor, whether it costs something or not.
TEST(TripletMining, HardTakesTheFarthestPositiveAndTheNearestNegative) {
  const Mined costly = Mine(TripletMining::kHard, {0, 0.5F, 1, 2, 0.75F}, {0, 0, 0, 1, 2});
  EXPECT_EQ(costly.coefficients, (std::vector<float>{0, 0, -1, 0, 1}));
  EXPECT_EQ(costly.sums.loss, 1 - 0.75 + kMargin);
  EXPECT_EQ(costly.sums.active, 1);
  const Mined satisfied = Mine(TripletMining::kHard, {0, 0.5F, 2}, {0, 0, 1});
  EXPECT_EQ(satisfied.sums.chosen, 1);
  EXPECT_EQ(satisfied.sums.active, 0);
  EXPECT_EQ(satisfied.sums.loss, 0);
  EXPECT_EQ(satisfied.coefficients, (std::vector<float>{0, 0, 0}));
}

// Batch all, but for those that cost nothing.
TEST(TripletMining, AllTakesEveryTripletThatCostsSomething) {
  const Mined mined =
      Mine(TripletMining::kAll, {0, 0.5F, 1, 0.625F, 1.125F, 2}, {0, 0, 0, 1, 2, 3});
  EXPECT_EQ(mined.sums.candidates, 6);
  // (1, 3) costs 0.125; (2, 3) 0.625; (2, 4) 0.125.
  EXPECT_EQ(mined.sums.chosen, 3);
  EXPECT_EQ(mined.sums.loss, 0.875);
  EXPECT_EQ(mined.coefficients, (std::vector<float>{0, -1, -2, 2, 1, 0}));
}

// Without a positive, or without a negative, there is no triplet.
TEST(TripletMining, ATripletNeedsAPositiveAndANegative) {
  for (const TripletMining mining :
       {TripletMining::kSemiHard, TripletMining::kHard, TripletMining::kAll}) {
    for (const std::vector<std::int64_t>& labels :
         {std::vector<std::int64_t>{0, 0, 0}, std::vector<std::int64_t>{0, 1, 2}}) {
      const Mined mined = Mine(mining, {0, 1, 1.125F}, labels);
      EXPECT_EQ(mined.sums.chosen, 0);
      EXPECT_EQ(mined.coefficients, (std::vector<float>{0, 0, 0}));
    }
    EXPECT_EQ(Mine(mining, {0}, {0}).sums.chosen, 0);
  }
}

// The nearest other image: its own identity's or not. An anchor without a positive is not asked.
TEST(TripletMining, RankOneIsOfAnchorsThatHaveAPositive) {
  const auto rank_one = [](const std::vector<float>& distances,
                           const std::vector<std::int64_t>& labels) {
    const TripletSums sums = Mine(TripletMining::kSemiHard, distances, labels).sums;
    return std::vector<double>{sums.nearest_own, sums.anchors};
  };
  EXPECT_EQ(rank_one({0, 1, 1.5F}, {0, 0, 1}), (std::vector<double>{1, 1}));
  EXPECT_EQ(rank_one({0, 1, 0.5F}, {0, 0, 1}), (std::vector<double>{0, 1}));
  EXPECT_EQ(rank_one({0, 1, 0.5F}, {0, 2, 1}), (std::vector<double>{0, 0}));
}

}  // namespace
}  // namespace fr
