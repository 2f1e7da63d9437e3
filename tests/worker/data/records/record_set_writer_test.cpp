#include "worker/data/records/record_set_writer.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/temporary_directory.h"
#include "tests/worker/data/files.h"
#include "worker/data/records/record_layout.h"
#include "worker/data/records/record_set.h"

namespace fr {
namespace {

// A label is a float32: of the keys of more than 16 million images it has the upper digits only.
// How many identities there are is written once more, and exact.
TEST(WriteIdentityRecords, MoreImagesThanFloatsCountAreToldApart) {
  const TemporaryDirectory directory;
  const std::int64_t images_end = 42'474'558;  // WebFace42M's
  const std::vector<std::int64_t> first_keys = {1, 20'000'001, 42'474'555};
  RecordWriter records(directory.path() / "train.rec", directory.path() / "train.idx");
  WriteIdentityRecords(first_keys, images_end, &records);
  records.Finish();
  const RecordFile file(directory.path() / "train.rec");
  const std::vector<IndexEntry> index = ReadIndex(directory.path() / "train.idx");
  ASSERT_EQ(index.size(), 4U);
  ASSERT_EQ(index.back().key, 0U);
  ImageRecord record;
  file.Read(index.back().offset, &record);
  const RecordLayout layout = LayoutOf(record, 42'474'561, directory.path());
  EXPECT_EQ(layout.images_end, 42'474'558U);
  EXPECT_EQ(layout.identities_end, 42'474'561U);
}

// Without it, as InsightFace writes it, the two rounded labels have to do.
TEST(WriteIdentityRecords, SmallSetsAreWrittenAsInsightFaceDoes) {
  const TemporaryDirectory directory;
  RecordWriter records(directory.path() / "train.rec", directory.path() / "train.idx");
  WriteIdentityRecords({1, 3}, 6, &records);
  records.Finish();
  const RecordFile file(directory.path() / "train.rec");
  ImageRecord record;
  std::vector<std::vector<float>> labels;
  for (const IndexEntry& entry : ReadIndex(directory.path() / "train.idx")) {
    file.Read(entry.offset, &record);
    labels.push_back(record.labels);
  }
  EXPECT_THAT(labels, testing::ElementsAre(testing::ElementsAre(1, 3), testing::ElementsAre(3, 6),
                                           testing::ElementsAre(6, 8)));
}

TEST(RecordSetWriter, GoesOnWithItsIdentitiesAndRemarks) {
  const TemporaryDirectory directory;
  const ResumeOptions resume = {"some input", 1};
  const auto write = [&](const std::string& name, bool stopped) {
    {
      RecordSetWriter writer(directory.path() / name, resume, true);
      writer.AddIdentity({"one", "two"}, "Ann");
      writer.AddRemark("left out: three");
      writer.Checkpoint(1);
      if (!stopped) {
        writer.AddIdentity({"four"}, "Bob");
        return writer.Finish(16, 16);
      }
      writer.AddIdentity({"what is lost"}, "Nobody");
    }
    RecordSetWriter writer(directory.path() / name, resume, true);
    EXPECT_EQ(writer.place(), 1);
    EXPECT_EQ(writer.num_images(), 2);
    EXPECT_THAT(writer.Remarks(), testing::ElementsAre("left out: three"));
    writer.AddIdentity({"four"}, "Bob");
    writer.Finish(16, 16);
  };
  write("whole", false);
  write("stopped", true);
  EXPECT_EQ(FilesIn(directory.path() / "stopped"), FilesIn(directory.path() / "whole"));
}

// Not even with a journal that a crash has left there.
TEST(RecordSetWriter, ASetIsNotOverwritten) {
  const TemporaryDirectory directory;
  {
    RecordSetWriter writer(directory.path());
    writer.AddIdentity({"one"});
    writer.Finish(16, 16);
  }
  const auto before = FilesIn(directory.path());
  EXPECT_THROW(RecordSetWriter{directory.path()}, Error);
  WriteFileAtomically(directory.path() / "train.rec.journal", "what is this?");
  EXPECT_THROW(RecordSetWriter{directory.path()}, Error);
  EXPECT_EQ(FilesIn(directory.path()), before);
}

}  // namespace
}  // namespace fr
