#include "worker/data/records/record_set.h"

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
#include "common/base/raw_value.h"
#include "tests/worker/data/grey_set.h"
#include "tests/worker/data/record_bytes.h"
#include "worker/data/records/record_format.h"

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

// Offsets of another file, or a length that lies, are found when the image is read.
TEST_F(RecordSetTest, ARecordThatRunsIntoTheNextIsNamed) {
  std::string rec = ReadFile(path() / "train.rec");
  const auto offset = ReadIndex(path() / "train.idx")[6].offset;
  const auto length = LoadRaw<std::uint32_t>(rec, offset + 4);
  rec.replace(offset + 4, 4, Bytes(length + 8));
  WriteFileAtomically(path() / "train.rec", rec);
  const RecordSet set(path());
  Sample sample;
  try {
    set.Read(6, &sample);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
    EXPECT_THAT(error.what(), testing::HasSubstr(fmt::format("key 7 at byte {}", offset)));
  }
}

// MXNet's im2rec writes images only, in the order of a shuffled list.
class Im2recSetTest : public RecordSetTest {
 protected:
  void Write(const std::vector<std::string>& records, const std::vector<int>& keys) {
    std::string rec;
    std::string idx;
    for (std::size_t i = 0; i < records.size(); ++i) {
      idx += fmt::format("{}\t{}\n", keys[i], rec.size());
      rec += records[i];
    }
    WriteFileAtomically(path() / "train.rec", rec);
    WriteFileAtomically(path() / "train.idx", idx);
  }

  std::vector<std::string> records_ = {PartBytes(PayloadBytes({4}, 2, "two")),
                                       PartBytes(PayloadBytes({0, 9}, 0, "zero")),
                                       PartBytes(PayloadBytes({2}, 1, "one"))};
};

TEST_F(Im2recSetTest, IsReadByKey) {
  Write(records_, {2, 0, 1});
  const RecordSet set(path());
  ASSERT_EQ(set.num_images(), 3);
  Sample sample;
  set.Read(0, &sample);
  EXPECT_EQ(sample.image, "zero");
  EXPECT_EQ(sample.identity, 0);
  set.Read(2, &sample);
  EXPECT_EQ(sample.image, "two");
  EXPECT_EQ(sample.identity, 4);
  EXPECT_THAT(set.Describe(2), testing::HasSubstr("key 2 at byte 0"));
  EXPECT_THAT(set.ImagesByIdentity().images, testing::ElementsAre(0, 1, 2));
}

// Nothing announces how many records there are: the index must reach the end of the file.
TEST_F(Im2recSetTest, ATruncatedIndexIsFoundAtOnce) {
  Write(records_, {0, 1, 2});
  Truncate("train.idx", 0.7);
  EXPECT_THAT(ErrorOfOpening(), testing::HasSubstr("train.idx: its last record ends at byte"));
}

TEST_F(Im2recSetTest, ARecord0ThatIsNoneOfTheTwoIsNamed) {
  records_[1] = PartBytes(PayloadBytes({0}, 0, ""));
  Write(records_, {2, 0, 1});
  EXPECT_THAT(ErrorOfOpening(), testing::HasSubstr("neither an image nor"));
}

TEST_F(RecordSetTest, ASetIsNotOverwritten) { EXPECT_THROW(RecordSetWriter{path()}, Error); }

}  // namespace
}  // namespace fr
