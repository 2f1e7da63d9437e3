#include "common/cli/progress.h"

#include <gtest/gtest.h>

namespace fr {
namespace {

TEST(ProgressText, SaysHowFarHowFastAndHowLong) {
  EXPECT_EQ(ProgressText("check", "images", 0, 1240, 5000, 2),
            "check  1,240/5,000 images (24.8 %)  620 images/s  6 s left");
  EXPECT_EQ(ProgressText("check", "images", 0, 5000, 5000, 10),
            "check  5,000/5,000 images (100.0 %)  500 images/s  in 10 s");
}

// What an earlier run had done says nothing about the speed of this one.
TEST(ProgressText, CountsTheSpeedOfThisRun) {
  EXPECT_EQ(ProgressText("pack", "pictures", 4000, 4100, 5000, 1),
            "pack  4,100/5,000 pictures (82.0 %)  100 pictures/s  9 s left");
}

TEST(ProgressText, SaysNoSpeedThatIsNotKnown) {
  EXPECT_EQ(ProgressText("pack", "pictures", 0, 0, 0, 0), "pack  0/0 pictures");
  EXPECT_EQ(ProgressText("pack", "pictures", 7, 7, 10, 1), "pack  7/10 pictures (70.0 %)");
}

}  // namespace
}  // namespace fr
