#include "worker/align/face_boxes.h"

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fr {
namespace {

using testing::ElementsAre;

TEST(KeepBest, DropsWhatOverlapsWithABetterOne) {
  // The second overlaps with the first by 81 / 119 of their union; the third with neither.
  const std::vector<FaceBox> boxes = {
      {0, 0, 10, 10, 0.7F}, {1, 1, 11, 11, 0.9F}, {20, 20, 30, 30, 0.8F}};
  EXPECT_THAT(KeepBest(boxes, 0.5F, Overlap::kUnion), ElementsAre(1, 2));
  EXPECT_THAT(KeepBest(boxes, 0.69F, Overlap::kUnion), ElementsAre(1, 2, 0));
}

TEST(KeepBest, OfEqualScoresTheFirstCounts) {
  const std::vector<FaceBox> boxes(3, FaceBox{0, 0, 10, 10, 0.5F});
  EXPECT_THAT(KeepBest(boxes, 0.5F, Overlap::kUnion), ElementsAre(0));
  EXPECT_THAT(KeepBest({}, 0.5F, Overlap::kUnion), ElementsAre());
}

// A small box inside a large one shares little of their union, but all of the smaller one.
TEST(KeepBest, ASmallBoxInsideALargeOne) {
  const std::vector<FaceBox> boxes = {{0, 0, 99, 99, 0.9F}, {10, 10, 19, 19, 0.8F}};
  EXPECT_THAT(KeepBest(boxes, 0.7F, Overlap::kUnion), ElementsAre(0, 1));
  EXPECT_THAT(KeepBest(boxes, 0.7F, Overlap::kSmaller), ElementsAre(0));
}

// With borders as pixels, boxes that only touch share a row of 10 pixels of 100.
TEST(KeepBest, BordersCountWhereTheSmallerOneIsTheMeasure) {
  const std::vector<FaceBox> boxes = {{0, 0, 9, 9, 0.9F}, {0, 9, 9, 18, 0.8F}};
  EXPECT_THAT(KeepBest(boxes, 0.09F, Overlap::kSmaller), ElementsAre(0));
  EXPECT_THAT(KeepBest(boxes, 0.11F, Overlap::kSmaller), ElementsAre(0, 1));
  EXPECT_THAT(KeepBest(boxes, 0.0F, Overlap::kUnion), ElementsAre(0, 1));
}

TEST(MainFace, IsLargeAndCentral) {
  const std::vector<Face> faces = {{{0, 0, 40, 40, 1}, {}},     // in a corner
                                   {{40, 40, 60, 60, 1}, {}},   // in the centre, small
                                   {{30, 30, 75, 75, 1}, {}}};  // near the centre, large
  EXPECT_EQ(MainFace(faces, 100, 100), &faces[2]);
  EXPECT_EQ(MainFace({faces.data(), 2}, 100, 100), &faces[1]);
  EXPECT_EQ(MainFace({}, 100, 100), nullptr);
}

}  // namespace
}  // namespace fr
