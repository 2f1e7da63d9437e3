#include "worker/data/check/set_check.h"

#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/random.h"
#include "common/base/temporary_directory.h"
#include "tests/worker/data/files.h"
#include "tests/worker/data/grey_set.h"
#include "tests/worker/data/killed.h"
#include "worker/data/check/set_check_report.h"
#include "worker/data/records/record_set_writer.h"
#include "worker/data/verification/verification_set_writer.h"

namespace fr {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string GreyJpeg(int value, int side = 16) { return EncodeJpeg(Grey(side, side, value), 95); }

std::vector<std::int64_t> IndicesOf(const std::vector<ImageFault>& faults) {
  std::vector<std::int64_t> indices;
  for (const ImageFault& fault : faults) indices.push_back(fault.index);
  return indices;
}

class SetCheckTest : public testing::Test {
 protected:
  std::filesystem::path set() const { return directory_.path() / "set"; }
  CheckOptions Options() const {
    CheckOptions options;
    options.state = directory_.path() / "state";
    options.threads = 2;
    return options;
  }
  TrainingSetCheck Check() const { return CheckTrainingSet(set(), Options()); }

  void Write(const std::vector<std::vector<std::string>>& identities) const {
    RecordSetWriter writer(set());
    for (const auto& images : identities) writer.AddIdentity(images);
    writer.Finish(16, 16);
  }

  TemporaryDirectory directory_;
};

TEST_F(SetCheckTest, AGoodSetIsWell) {
  Write({{GreyJpeg(10), GreyJpeg(30)}, {GreyJpeg(50)}});
  const TrainingSetCheck check = Check();
  EXPECT_TRUE(check.ok());
  EXPECT_EQ(check.num_images, 3);
  EXPECT_THAT(CheckReportText(check), HasSubstr("all is well"));
}

// One of each kind, and nothing else.
TEST_F(SetCheckTest, EveryKindOfFaultIsFound) {
  const std::string cut = GreyJpeg(90).substr(0, 200);
  Write({{GreyJpeg(10), GreyJpeg(30), GreyJpeg(10)},  // 0, 1, 2: the first is there twice
         {GreyJpeg(50), cut},                         // 3, 4: broken
         {},                                          // nobody
         {GreyJpeg(30), GreyJpeg(70, 20)},            // 5, 6: identity 0's, and of another size
         {"no picture"}});                            // 7
  const TrainingSetCheck check = Check();
  EXPECT_FALSE(check.ok());
  EXPECT_THAT(IndicesOf(check.broken), ElementsAre(4, 7)) << CheckReportText(check);
  EXPECT_EQ(check.broken[0].key, 5U);
  EXPECT_THAT(check.broken[0].where, HasSubstr("key 5 at byte"));
  EXPECT_GT(check.broken[0].byte.value(), 0U);
  EXPECT_THAT(check.broken[0].cause, HasSubstr("JPEG"));
  EXPECT_THAT(IndicesOf(check.wrong_size), ElementsAre(6));
  EXPECT_EQ(check.wrong_size[0].cause, "20 x 20 pixels");
  ASSERT_EQ(check.duplicates.within_identity.size(), 1U);
  EXPECT_THAT(check.duplicates.within_identity[0].images, ElementsAre(0, 2));
  ASSERT_EQ(check.duplicates.across_identities.size(), 1U);
  EXPECT_THAT(check.duplicates.across_identities[0].images, ElementsAre(1, 5));
  EXPECT_THAT(check.duplicates.across_identities[0].identities, ElementsAre(0, 3));
  EXPECT_THAT(check.empty_identities, ElementsAre(2));
}

TEST_F(SetCheckTest, ALabelBeyondThePropertyIsAFault) {
  Write({{GreyJpeg(10)}, {GreyJpeg(30)}});
  WriteFileAtomically(set() / "property", "1,16,16\n");
  const TrainingSetCheck check = Check();
  EXPECT_THAT(IndicesOf(check.broken), ElementsAre(1));
  EXPECT_GT(check.records.num_faults, 0);
}

// A download that broke off is a finding; where there is no set, that is an error.
TEST_F(SetCheckTest, ATruncatedSetIsAFinding) {
  Write({{GreyJpeg(10)}, {GreyJpeg(30)}});
  std::filesystem::resize_file(set() / "train.rec", 500);
  const TrainingSetCheck check = Check();
  EXPECT_FALSE(check.ok());
  EXPECT_THAT(check.unreadable, HasSubstr("train.rec"));
  EXPECT_GT(check.records.num_faults, 0);
  EXPECT_THROW(CheckTrainingSet(directory_.path() / "none", Options()), Error);
}

// Killed at many places, it goes on and finds what one that nobody stopped finds.
TEST_F(SetCheckTest, StoppedItGoesOn) {
  std::vector<std::vector<std::string>> identities;
  for (int i = 0; i < 20; ++i) {
    identities.push_back({});
    for (int k = 0; k < 50; ++k) {
      identities.back().push_back(k % 9 == 0 ? "broken" : GreyJpeg((i * 50 + k) % 251));
    }
  }
  Write(identities);
  const std::string whole = CheckReportJson(Check());
  DiscardCheckState(Options().state);
  CheckOptions options = Options();
  options.threads = 1;
  options.checkpoint_bytes = 3000;
  for (const int reports : {2, 5, 11}) {
    CheckOptions killed = options;
    killed.report.progress = [left = reports](std::int64_t, std::int64_t) mutable {
      if (--left == 0) raise(SIGKILL);
    };
    EXPECT_FALSE(RunInChild([&] { CheckTrainingSet(set(), killed); }));
    std::int64_t first_done = -1;
    CheckOptions resumed = options;
    resumed.report.progress = [&first_done](std::int64_t done, std::int64_t) {
      if (first_done < 0) first_done = done;
    };
    EXPECT_EQ(CheckReportJson(CheckTrainingSet(set(), resumed)), whole);
    EXPECT_EQ(first_done > 0, reports > 3) << reports;
    DiscardCheckState(options.state);
  }
  EXPECT_THAT(FilesIn(directory_.path()), testing::SizeIs(3));  // the set; no state is left
}

// Against the plain way: all images compared with all others.
TEST(FindDuplicates, FindsWhatComparingAllFinds) {
  Random random(3);
  std::string bytes;
  std::vector<ImageEntry> entries;
  for (std::uint32_t i = 0; i < 300; ++i) {
    ImageEntry entry;
    entry.checksum = {0, static_cast<std::uint64_t>(random.Below(150))};
    entry.index = 299 - i;  // in the order of some disk
    entry.identity = static_cast<std::uint32_t>(random.Below(2));
    if (i % 10 == 0) entry.identity = ImageEntry::kUnread;
    entries.push_back(entry);
    bytes.append(reinterpret_cast<const char*>(&entry), sizeof(entry));
  }
  std::set<std::vector<std::int64_t>> expected;
  for (const ImageEntry& one : entries) {
    std::vector<std::int64_t> same;
    for (const ImageEntry& other : entries) {
      if (one.identity != ImageEntry::kUnread && other.identity != ImageEntry::kUnread &&
          one.checksum == other.checksum) {
        same.insert(same.begin(), other.index);
      }
    }
    if (same.size() > 1) expected.insert(same);
  }
  std::set<std::vector<std::int64_t>> found;
  const Duplicates duplicates = FindDuplicates(bytes);
  for (const DuplicateGroup& group : duplicates.within_identity) {
    EXPECT_EQ(std::set(group.identities.begin(), group.identities.end()).size(), 1U);
    found.insert(group.images);
  }
  for (const DuplicateGroup& group : duplicates.across_identities) {
    EXPECT_EQ(std::set(group.identities.begin(), group.identities.end()).size(), 2U);
    found.insert(group.images);
  }
  EXPECT_EQ(found, expected);
}

TEST(VerificationSetCheck, FindsBrokenImagesAndPairsThatSayNothing) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "x.bin";
  const std::vector<std::string> images = {GreyJpeg(0), GreyJpeg(99), GreyJpeg(50), "broken",
                                           GreyJpeg(7, 20)};
  WriteVerificationSet(
      path,
      {{0, 1, true}, {0, 2, false}, {1, 0, false}, {2, 2, true}, {1, 3, false}, {2, 4, false}},
      [&](std::int64_t i) { return images[static_cast<std::size_t>(i)]; });
  const VerificationSetCheck check = CheckVerificationSet(path, {});
  EXPECT_EQ(check.num_pairs, 6);
  EXPECT_THAT(IndicesOf(check.broken), ElementsAre(9));
  EXPECT_THAT(check.broken[0].where, HasSubstr("second image of pair 4"));
  EXPECT_THAT(IndicesOf(check.wrong_size), ElementsAre(11));
  EXPECT_THAT(check.identical_pairs, ElementsAre(3));
  EXPECT_THAT(check.contradicting_pairs, ElementsAre(0, 2));
  // A part of one is a finding, and what is no pickle is none.
  WriteFileAtomically(path, ReadFile(path).substr(0, 500));
  EXPECT_NE(CheckVerificationSet(path, {}).unreadable, "");
  WriteFileAtomically(path, GreyJpeg(1));
  EXPECT_THROW(CheckVerificationSet(path, {}), Error);
}

}  // namespace
}  // namespace fr
