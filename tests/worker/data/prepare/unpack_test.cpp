#include "worker/data/prepare/unpack.h"

#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/temporary_directory.h"
#include "tests/worker/data/files.h"
#include "tests/worker/data/grey_set.h"
#include "tests/worker/data/killed.h"
#include "worker/data/records/record_set.h"
#include "worker/data/records/record_set_writer.h"
#include "worker/data/verification/verification_set_writer.h"

namespace fr {
namespace {

using testing::ElementsAre;
using testing::Pair;

class UnpackTest : public testing::Test {
 protected:
  std::filesystem::path out() const { return directory_.path() / "out"; }
  std::filesystem::path set() const { return directory_.path() / "set"; }

  TemporaryDirectory directory_;
};

// Names become folders, unsafe ones and equal ones too; bytes stay bytes.
TEST_F(UnpackTest, ImagesLieUnderTheirNames) {
  RecordSetWriter writer(set(), {}, true);
  writer.AddIdentity({"\xff\xd8 one", "\x89PNG two"}, "Ann");
  writer.AddIdentity({"P5 three"}, "../up");
  writer.AddIdentity({"what?"}, "Ann");
  writer.Finish(16, 16);
  UnpackTrainingSet(RecordSet(set()), out(), {});
  EXPECT_THAT(FilesIn(out()),
              ElementsAre(Pair("%2E.%2Fup/3.pgm", "P5 three"), Pair("Ann%L2/4.unknown", "what?"),
                          Pair("Ann/1.jpg", "\xff\xd8 one"), Pair("Ann/2.png", "\x89PNG two")));
}

TEST_F(UnpackTest, WithoutNamesLabelsAreFolders) {
  const GreySet grey;
  UnpackTrainingSet(RecordSet(grey.path()), out(), {});
  const auto files = FilesIn(out());
  EXPECT_EQ(files.size(), 15U);
  EXPECT_EQ(files.at("4/15.jpg"), EncodeJpeg(Grey(16, 16, 16 * 14), 95));
}

TEST_F(UnpackTest, PairsAreListed) {
  const auto path = directory_.path() / "x.bin";
  WriteVerificationSet(path, {{0, 1, true}, {1, 1, false}}, [](std::int64_t i) {
    return std::string(i == 0 ? "\xff\xd8 a" : "\xff\xd8 b");
  });
  UnpackVerificationSet(VerificationSet::Open(path), out(), {});
  const auto files = FilesIn(out());
  EXPECT_EQ(files.at("pairs.csv"),
            "first,second,same\n00000.jpg,00001.jpg,1\n00002.jpg,00003.jpg,0\n");
  EXPECT_EQ(files.at("00000.jpg") + files.at("00003.jpg"), "\xff\xd8 a\xff\xd8 b");
}

// Stopped, and after a crash that cut a file short, the rest is made and nothing else touched.
TEST_F(UnpackTest, WhatIsThereStays) {
  RecordSetWriter writer(set());
  std::vector<std::string> images;
  for (int i = 0; i < 600; ++i) images.push_back("\xff\xd8" + std::to_string(i));
  writer.AddIdentity(images);
  writer.Finish(16, 16);
  const RecordSet records(set());
  UnpackOptions options;
  options.report.progress = [](std::int64_t done, std::int64_t) {
    if (done > 300) raise(SIGKILL);
  };
  EXPECT_FALSE(RunInChild([&] { UnpackTrainingSet(records, out(), options); }));
  EXPECT_FALSE(std::filesystem::exists(out() / "0/600.jpg"));
  std::filesystem::resize_file(out() / "0/7.jpg", 3);
  const auto written = std::filesystem::last_write_time(out() / "0/8.jpg");
  UnpackTrainingSet(records, out(), {});
  const auto files = FilesIn(out());
  EXPECT_EQ(files.size(), 600U);
  for (int i = 0; i < 600; ++i) {
    EXPECT_EQ(files.at("0/" + std::to_string(i + 1) + ".jpg"), images[static_cast<std::size_t>(i)]);
  }
  EXPECT_EQ(std::filesystem::last_write_time(out() / "0/8.jpg"), written);
}

TEST_F(UnpackTest, OtherPicturesAreNotOverwritten) {
  const GreySet grey;
  std::filesystem::create_directories(out() / "0");
  WriteFileAtomically(out() / "0/1.jpg", "mine");
  EXPECT_THROW(UnpackTrainingSet(RecordSet(grey.path()), out(), {}), Error);
  EXPECT_EQ(ReadFile(out() / "0/1.jpg"), "mine");
}

}  // namespace
}  // namespace fr
