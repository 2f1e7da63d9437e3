#include "worker/dedupe/match.h"

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fr {
namespace {

using testing::ElementsAre;

TEST(BestMatches, KeepsTheMostSimilarOfEachIdentity) {
  BestMatches best(3, 2);
  for (const Match& match :
       std::vector<Match>{{2, 5, 0.8F}, {0, 1, 0.7F}, {0, 2, 0.9F}, {0, 3, 0.8F}, {0, 4, 0.75F}}) {
    best.Add(match);
  }
  EXPECT_EQ(best.num_added(), 5);
  std::vector<std::vector<std::int64_t>> pairs;
  for (const Match& match : best.Sorted()) pairs.push_back({match.left, match.right});
  EXPECT_THAT(pairs, ElementsAre(ElementsAre(0, 2), ElementsAre(0, 3), ElementsAre(2, 5)));
}

TEST(SameIdentities, AreConnectedOverOthers) {
  SameIdentities same(6);
  same.Join(4, 5);
  same.Join(1, 5);
  EXPECT_EQ(same.FirstOf(4), 1);
  EXPECT_EQ(same.FirstOf(5), 1);
  EXPECT_EQ(same.FirstOf(0), 0);
}

TEST(LabelsWithout, AreDense) {
  EXPECT_THAT(LabelsWithout({false, true, false, true, false}), ElementsAre(0, -1, 1, -1, 2));
}

TEST(LabelsOfDistinct, TheOneWithMostImagesStaysOrAllBecomeOne) {
  SameIdentities same(5);
  same.Join(0, 3);
  same.Join(1, 4);
  const std::vector<std::int64_t> images = {5, 7, 1, 6, 7};
  EXPECT_THAT(LabelsOfDistinct(&same, images, DuplicatePolicy::kRemove),
              ElementsAre(-1, 0, 1, 2, -1));
  EXPECT_THAT(LabelsOfDistinct(&same, images, DuplicatePolicy::kMerge), ElementsAre(0, 1, 2, 0, 1));
}

}  // namespace
}  // namespace fr
