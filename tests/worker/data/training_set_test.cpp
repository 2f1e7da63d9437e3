#include "worker/data/training_set.h"

#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "tests/worker/data/grey_set.h"
#include "tests/worker/data/shard_files.h"
#include "worker/data/check/inspect.h"

namespace fr {
namespace {

TEST(OpenTrainingSet, TellsTheLayoutsApart) {
  const GreySet grey;
  const std::string picture = EncodeJpeg(Grey(16, 16, 9), 90);
  const auto shards = grey.directory() / "shards";
  WriteTar(shards / "a.tar", {{"1.jpg", picture}, {"1.cls", "0"}});
  const auto folder = grey.directory() / "folder";
  std::filesystem::create_directories(folder / "ada");
  WriteFileAtomically(folder / "ada/1.jpg", picture);
  EXPECT_EQ(LayoutAt(grey.path()), SetLayout::kRecords);
  EXPECT_EQ(LayoutAt(shards), SetLayout::kShards);
  EXPECT_EQ(LayoutAt(shards / "a.tar"), SetLayout::kShards);
  EXPECT_EQ(LayoutAt(folder), SetLayout::kFolder);
  EXPECT_EQ(OpenTrainingSet(grey.path())->num_images(), 15);
  for (const auto& path : {shards, shards / "a.tar", folder}) {
    EXPECT_EQ(OpenTrainingSet(path)->num_images(), 1);
    EXPECT_THAT(DescribeData(path), testing::HasSubstr("identities  1\n"));
  }
  EXPECT_THAT(DescribeData(folder), testing::HasSubstr("layout      a folder of pictures"));
}

TEST(OpenTrainingSet, SaysWhatItExpects) {
  const TemporaryDirectory directory;
  for (const auto& path : {directory.path(), directory.path() / "none"}) {
    try {
      OpenTrainingSet(path);
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kNotFound);
      for (const char* word : {"train.rec", "*.tar", "folder of pictures"}) {
        EXPECT_THAT(error.what(), testing::HasSubstr(word));
      }
    }
  }
}

// One of its files is enough to be a record set: the one that is missing is named.
TEST(OpenTrainingSet, NamesTheFileThatARecordSetLacks) {
  for (const char* missing : {"train.rec", "train.idx", "property"}) {
    const GreySet grey;
    std::filesystem::remove(grey.path() / missing);
    try {
      OpenTrainingSet(grey.path());
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kNotFound);
      EXPECT_THAT(error.what(), testing::HasSubstr(missing));
    }
  }
}

}  // namespace
}  // namespace fr
