#include "worker/data/records/set_property.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"

namespace fr {
namespace {

// Real sets have been edited by hand.
TEST(ParseProperty, PassesOverWhatIsAroundTheThreeNumbers) {
  for (const char* text : {"85742,112,96", "85742,112,96\n", "85742,112,96\r\n", "85742,112,96  ",
                           "85742, 112, 96", "\n85742,112,96\nmore", "85742,112,96,3,faces"}) {
    const SetProperty property = ParseProperty(text, "property");
    EXPECT_EQ(property.num_identities, 85'742) << text;
    EXPECT_EQ(property.height, 112) << text;
    EXPECT_EQ(property.width, 96) << text;
  }
}

TEST(ParseProperty, NamesTheFileThatHasNone) {
  for (const char* text :
       {"", "\n", "5", "5,16", "5,16,", "5;16;16", "0,16,16", "5,16,-1", "five,16,16", "5,16,16x",
        "5,99999,16", "2147483648,1,1", "99999999999999999999,1,1"}) {
    try {
      ParseProperty(text, "faces/property");
      FAIL() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
      EXPECT_THAT(error.what(), testing::AllOf(testing::HasSubstr("faces/property"),
                                               testing::HasSubstr("85742,112,112")));
    }
  }
}

}  // namespace
}  // namespace fr
