#include "common/cli/text.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace fr {
namespace {

TEST(CountText, GroupsDigitsByThree) {
  EXPECT_EQ(CountText(0), "0");
  EXPECT_EQ(CountText(999), "999");
  EXPECT_EQ(CountText(1000), "1,000");
  EXPECT_EQ(CountText(85'742), "85,742");
  EXPECT_EQ(CountText(42'474'557), "42,474,557");
  EXPECT_EQ(CountText(-1), "-1");
  EXPECT_EQ(CountText(-123), "-123");
  EXPECT_EQ(CountText(-1234), "-1,234");
  EXPECT_EQ(CountText(std::numeric_limits<std::int64_t>::min()), "-9,223,372,036,854,775,808");
}

TEST(DurationText, NamesTheTwoLargestUnits) {
  EXPECT_EQ(DurationText(0), "0 s");
  EXPECT_EQ(DurationText(0.4), "0 s");
  EXPECT_EQ(DurationText(59.6), "1 min");
  EXPECT_EQ(DurationText(61), "1 min 1 s");
  EXPECT_EQ(DurationText(3600), "1 h");
  EXPECT_EQ(DurationText(5321), "1 h 28 min");
  EXPECT_EQ(DurationText(90'000), "1 d 1 h");
}

// Estimates divide by measured rates: they may be anything.
TEST(DurationText, BearsAnyNumber) {
  EXPECT_EQ(DurationText(-5), "0 s");
  EXPECT_EQ(DurationText(std::nan("")), "?");
  EXPECT_EQ(DurationText(INFINITY), "?");
  EXPECT_FALSE(DurationText(1e300).empty());
  EXPECT_FALSE(RateText(1e300).empty());
  EXPECT_EQ(RateText(std::nan("")), "nan");
}

TEST(BytesText, ScalesByPowersOf1024) {
  EXPECT_EQ(BytesText(0), "0 B");
  EXPECT_EQ(BytesText(1023), "1023 B");
  EXPECT_EQ(BytesText(1024), "1.0 KiB");
  EXPECT_EQ(BytesText(500LL << 20), "500 MiB");
  EXPECT_EQ(BytesText(std::numeric_limits<std::int64_t>::max()), "8192 PiB");
}

// A reason that a job gives could otherwise move the cursor or clear the screen.
TEST(OneLine, TakesControlCharactersOut) {
  EXPECT_EQ(OneLine("a\nb\tc\x1b[2Jd\x7f"), "a b c [2Jd ");
  EXPECT_EQ(OneLine("gr\xc3\xbc\xc3\x9f"), "gr\xc3\xbc\xc3\x9f");
}

}  // namespace
}  // namespace fr
