#include "worker/data/folders/identity_names.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"

namespace fr {
namespace {

TEST(IdentityNames, LinesAreReadAsTheyAreWritten) {
  const TemporaryDirectory directory;
  EXPECT_TRUE(ReadIdentityNames(directory.path(), 3).empty());
  WriteFileAtomically(
      directory.path() / "identities.txt",
      IdentityNameLine(0, "Ann Lee") + IdentityNameLine(1, "a\nb\tc") + IdentityNameLine(2, ""));
  EXPECT_THAT(ReadIdentityNames(directory.path(), 3), testing::ElementsAre("Ann Lee", "a b c", ""));
}

TEST(IdentityNames, AListOfAnotherSetIsNamedByItsLine) {
  const TemporaryDirectory directory;
  const auto error_of = [&directory](const std::string& text) -> std::string {
    WriteFileAtomically(directory.path() / "identities.txt", text);
    try {
      ReadIdentityNames(directory.path(), 2);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(error_of("0\ta\n1\tb\n"), "");
  EXPECT_EQ(error_of("0\ta\r\n1\tb"), "");
  for (const char* text : {"0\ta\n", "0\ta\n2\tb\n", "0\ta\n1 b\n", "0\ta\nb\n", "0\ta\n1",
                           "0\ta\n1\tb\n2\tc\n", ""}) {
    EXPECT_THAT(error_of(text), testing::HasSubstr("identities.txt:")) << text;
  }
}

// What a name would do as a path it must not do, and two names are never one.
TEST(SafeFileName, EscapesWhatIsUnsafe) {
  EXPECT_EQ(SafeFileName("Ann Lee"), "Ann Lee");
  EXPECT_EQ(SafeFileName("Zoë"), "Zoë");
  EXPECT_EQ(SafeFileName(".."), "%2E%2E");
  EXPECT_EQ(SafeFileName("../../etc"), "%2E.%2F..%2Fetc");
  EXPECT_EQ(SafeFileName("a/b\\c\n"), "a%2Fb%5Cc%0A");
  EXPECT_EQ(SafeFileName("a%2Fb"), "a%252Fb");
  EXPECT_EQ(SafeFileName(""), "%");
  const std::string long_name(5000, 'x');
  EXPECT_LT(SafeFileName(long_name).size(), 256U);
  EXPECT_NE(SafeFileName(long_name), SafeFileName(long_name + "y"));
}

}  // namespace
}  // namespace fr
