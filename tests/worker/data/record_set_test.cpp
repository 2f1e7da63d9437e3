#include "worker/data/record_set.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "tests/worker/data/grey_set.h"

namespace fr {
namespace {

class RecordSetTest : public testing::Test {
 protected:
  std::filesystem::path path() const { return set_.path(); }

  std::string ErrorOfOpening() {
    try {
      RecordSet set(path());
    } catch (const Error& error) {
      return fmt::format("{}: {}", ErrorCodeName(error.code()), error.what());
    }
    return "";
  }

  void Truncate(const char* name, double share) {
    const auto file = path() / name;
    std::filesystem::resize_file(
        file, static_cast<std::uintmax_t>(share * std::filesystem::file_size(file)));
  }

  GreySet set_;
};

TEST_F(RecordSetTest, HasItsImagesAndIdentities) {
  const RecordSet set(path());
  EXPECT_EQ(set.num_images(), 15);
  EXPECT_EQ(set.num_identities(), 5);
  EXPECT_THAT(set.ImagesByIdentity().begin, testing::ElementsAre(0, 3, 6, 9, 12, 15));
  for (int i = 0; i < 15; ++i) {
    Sample sample;
    set.Read(i, &sample);
    EXPECT_EQ(sample.identity, i / 3);
    EXPECT_NEAR(DecodeImage(sample.image).pixels[0], 16 * i, 2);
  }
}

// Every way in which a copy goes wrong is found when the set is opened, not hours later.
TEST_F(RecordSetTest, ATruncatedSetIsFoundAtOnce) {
  Truncate("train.rec", 0.5);
  EXPECT_THAT(ErrorOfOpening(),
              testing::AllOf(testing::StartsWith("DATA_LOSS"), testing::HasSubstr("train.rec")));
}

TEST_F(RecordSetTest, ATruncatedIndexIsFoundAtOnce) {
  Truncate("train.idx", 0.5);
  EXPECT_THAT(ErrorOfOpening(), testing::StartsWith("DATA_LOSS"));
}

TEST_F(RecordSetTest, AWrongPropertyIsNamed) {
  for (const char* text : {"", "5", "5,16", "5;16;16", "0,16,16", "5,16,-1", "five,16,16"}) {
    WriteFileAtomically(path() / "property", text);
    EXPECT_THAT(ErrorOfOpening(), testing::AllOf(testing::StartsWith("DATA_LOSS"),
                                                 testing::HasSubstr("85742,112,112")))
        << text;
  }
}

TEST_F(RecordSetTest, ALabelBeyondTheIdentitiesIsNamed) {
  WriteFileAtomically(path() / "property", "4,16,16");
  const RecordSet set(path());
  Sample sample;
  EXPECT_THROW(set.Read(14, &sample), Error);
}

TEST_F(RecordSetTest, ASetIsNotOverwritten) { EXPECT_THROW(RecordSetWriter{path()}, Error); }

}  // namespace
}  // namespace fr
