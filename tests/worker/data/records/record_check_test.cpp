#include "worker/data/records/record_check.h"

#include <algorithm>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "tests/worker/data/record_bytes.h"
#include "worker/data/records/record_index.h"

namespace fr {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

// Two identities of two images each, made by hand: record 0, images 1 to 4, identities 5 and 6.
class CheckRecordsTest : public testing::Test {
 protected:
  CheckRecordsTest() {
    Add(PayloadBytes({5, 7}, 0, ""));
    for (std::uint64_t key = 1; key <= 4; ++key) {
      Add(PayloadBytes({key <= 2 ? 0.0F : 1.0F}, key, "image"));
    }
    Add(PayloadBytes({1, 3}, 5, ""));
    Add(PayloadBytes({3, 5}, 6, ""));
  }

  void Add(const std::string& payload) {
    index_.push_back({index_.size(), rec_.size()});
    rec_ += PartBytes(payload);
  }

  // The record of `key` becomes `bytes`, which are as long.
  void Replace(std::uint64_t key, const std::string& bytes) {
    rec_.replace(index_[key].offset, bytes.size(), bytes);
  }

  RecordCheck Check(std::size_t max_faults = 100) const {
    std::string idx;
    for (const IndexEntry& entry : index_) idx += fmt::format("{}\t{}\n", entry.key, entry.offset);
    WriteFileAtomically(directory_.path() / "train.rec", rec_);
    WriteFileAtomically(directory_.path() / "train.idx", idx);
    WriteFileAtomically(directory_.path() / "property", "2,112,112");
    return CheckRecords(directory_.path(), max_faults, {});
  }

  std::vector<std::string> Faults() const {
    std::vector<std::string> texts;
    for (const RecordFault& fault : Check().faults) texts.push_back(DescribeFault(fault));
    return texts;
  }

  TemporaryDirectory directory_;
  std::string rec_;
  std::vector<IndexEntry> index_;
};

TEST_F(CheckRecordsTest, AWholeSetHasNoFaults) {
  const RecordCheck check = Check();
  EXPECT_THAT(Faults(), IsEmpty());
  EXPECT_EQ(check.num_faults, 0);
  EXPECT_EQ(check.num_records, 7);
  EXPECT_EQ(check.num_other_ids, 0);
}

// Real sets have headers with other ids: told, but no fault.
TEST_F(CheckRecordsTest, AnotherIdInTheHeaderIsCountedOnly) {
  Replace(2, PartBytes(PayloadBytes({0}, 99, "image")));
  const RecordCheck check = Check();
  EXPECT_EQ(check.num_faults, 0);
  EXPECT_EQ(check.num_other_ids, 1);
}

TEST_F(CheckRecordsTest, ATruncatedFileIsFound) {
  const std::uint64_t last = index_[6].offset;
  rec_.resize(rec_.size() - 1);
  EXPECT_THAT(Faults(), ElementsAre(fmt::format(
                            "key 6 at byte {}: reaches beyond the end of the file", last)));
  rec_.resize(last);
  EXPECT_THAT(Faults(),
              ElementsAre(fmt::format("key 6 at byte {}: lies beyond the end of the file", last)));
}

TEST_F(CheckRecordsTest, AMisindexedKeyIsFound) {
  index_[3].offset += 4;
  EXPECT_THAT(Faults(), ElementsAre(AllOf(StartsWith("key 3 at byte"), HasSubstr("magic number"))));
}

TEST_F(CheckRecordsTest, TwoKeysOfOneRecordAreFound) {
  index_[3].offset = index_[2].offset;
  EXPECT_THAT(Faults(), ElementsAre(AllOf(StartsWith("key 3"), HasSubstr("of key 2")),
                                    HasSubstr("belong to no key")));
}

// A length that lies: the record would hold its neighbour, too.
TEST_F(CheckRecordsTest, ARecordThatRunsIntoTheNextIsFound) {
  rec_.replace(index_[2].offset + 4, 4, Bytes(std::uint32_t{40}));
  EXPECT_THAT(Faults(),
              ElementsAre(AllOf(StartsWith("key 2"), HasSubstr("runs into the record of key 3"))));
}

// So does the chain of parts of a split record whose last part was lost.
TEST_F(CheckRecordsTest, AChainOfPartsThatRunsIntoTheNextRecordIsFound) {
  rec_.replace(index_[2].offset + 4, 4, Bytes(std::uint32_t{1U << 29 | 29}));
  EXPECT_THAT(Faults(),
              ElementsAre(AllOf(StartsWith("key 2"), HasSubstr("runs into another record"))));
}

TEST_F(CheckRecordsTest, BytesOfNoKeyAreFound) {
  rec_ += "rubbish!";
  EXPECT_THAT(Faults(), ElementsAre(HasSubstr("8 bytes")));
}

TEST_F(CheckRecordsTest, KeysThatAreMissingOrThereTwiceAreFound) {
  index_[4].key = 3;
  EXPECT_THAT(Faults(), ElementsAre(AllOf(StartsWith("key 3"), HasSubstr("two lines"))));
  index_[4].key = 4'000'000'000;
  EXPECT_THAT(Faults(), testing::Contains(HasSubstr("lower keys are missing")));
}

TEST_F(CheckRecordsTest, ALyingRecordIsFound) {
  Replace(1, PartBytes(PayloadBytes({2}, 1, "image")));                // no such identity
  Replace(4, PartBytes(PayloadBytes({0.5}, 4, "image")));              // none at all
  Replace(5, PartBytes(PayloadBytes({1, 4}, 5, "")));                  // with another's image
  Replace(6, PartBytes(PayloadBytes({3, 9}, 6, "")));                  // with images that are none
  rec_.replace(index_[3].offset + 8, 4, Bytes(std::uint32_t{1'000}));  // more labels than bytes
  EXPECT_THAT(Faults(),
              ElementsAre(AllOf(StartsWith("key 1"), HasSubstr("label 2")),
                          AllOf(StartsWith("key 3"), HasSubstr("more labels than it holds")),
                          AllOf(StartsWith("key 4"), HasSubstr("label 0.5")),
                          AllOf(StartsWith("key 6"), HasSubstr("no images of the set"))));
  Replace(3, PartBytes(PayloadBytes({1}, 3, "image")));
  EXPECT_THAT(Faults(), testing::Contains(AllOf(StartsWith("key 5"),
                                                HasSubstr("of identity 0 and of 1 (key 3)"))));
}

TEST_F(CheckRecordsTest, ARecord0ThatAnnouncesOtherKeysIsFound) {
  Replace(0, PartBytes(PayloadBytes({5, 8}, 0, "")));
  EXPECT_THAT(Faults(), ElementsAre(HasSubstr("but train.idx has 7 keys")));
}

// A file full of faults does not fill the memory.
TEST_F(CheckRecordsTest, FaultsAreCountedBeyondTheOnesThatAreKept) {
  for (IndexEntry& entry : index_) entry.offset += 1;
  const RecordCheck check = Check(2);
  EXPECT_EQ(check.faults.size(), 2U);
  EXPECT_EQ(check.num_faults, 7);
}

TEST_F(CheckRecordsTest, ProgressReachesTheEnd) {
  Check();
  std::vector<std::int64_t> done;
  CheckRecords(directory_.path(), 1, [&](std::int64_t records, std::int64_t total) {
    EXPECT_EQ(total, 7);
    done.push_back(records);
  });
  EXPECT_EQ(done.back(), 7);
}

TEST_F(CheckRecordsTest, AMissingFileIsAnError) {
  EXPECT_THROW(CheckRecords(directory_.path(), 1, {}), Error);
}

}  // namespace
}  // namespace fr
