#include "worker/data/records/record_index.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"

namespace fr {
namespace {

TEST(ParseIndex, ALineThatIsNoneIsNamed) {
  for (const std::string text : {"0\t0\n1 5\n", "0\t0\n1\t\n", "0\t0\nx\t1\n", "0\t0\n1\t5z\n"}) {
    try {
      ParseIndex(text, "set/train.idx");
      FAIL() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
      EXPECT_THAT(error.what(), testing::HasSubstr("set/train.idx:2"));
    }
  }
}

TEST(ParseIndex, ReadsLineEndsOfEveryKind) {
  EXPECT_THAT(ParseIndex("0\t0\r\n1\t56", "train.idx"),
              testing::ElementsAre(IndexEntry{0, 0}, IndexEntry{1, 56}));
}

}  // namespace
}  // namespace fr
