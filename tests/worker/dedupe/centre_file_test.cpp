#include "worker/dedupe/centre_file.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/temporary_directory.h"

namespace fr {
namespace {

using testing::ElementsAre;

class CentreFileTest : public testing::Test {
 protected:
  std::filesystem::path path() const { return directory_.path() / "set.centres"; }

  TemporaryDirectory directory_;
  CentreFileHeader header_ = {"this set, this model", 3, 2};
};

TEST_F(CentreFileTest, GivesBackWhatWasAppended) {
  CentreFileWriter writer(path(), header_);
  writer.Append(std::vector<float>{1, 0, 0, 1});
  EXPECT_EQ(writer.done(), 2);
  EXPECT_THROW(CentreFile{path()}, Error);  // not complete
  writer.Append(std::vector<float>{-1, 0});
  const CentreFile file(path());
  EXPECT_EQ(file.num_identities(), 3);
  EXPECT_EQ(file.dimension(), 2);
  EXPECT_THAT(file.Rows(1, 3), ElementsAre(0, 1, -1, 0));
}

TEST_F(CentreFileTest, GoesOnBehindTheLastWholeRow) {
  CentreFileWriter(path(), header_).Append(std::vector<float>{1, 0, 0, 1});
  for (const std::uintmax_t size : {64 + 8 + 5, 64 + 8}) {
    std::filesystem::resize_file(path(), size);
    EXPECT_EQ(CentreFileWriter(path(), header_).done(), 1);
  }
  std::filesystem::resize_file(path(), 30);
  EXPECT_EQ(CentreFileWriter(path(), header_).done(), 0);
}

TEST_F(CentreFileTest, CentresOfSomethingElseStayAsTheyAre) {
  CentreFileWriter(path(), header_).Append(std::vector<float>{1, 0, 0, 1});
  const std::string before = ReadFile(path());
  EXPECT_THROW(CentreFileWriter(path(), {"another model", 3, 2}), Error);
  EXPECT_EQ(ReadFile(path()), before);
}

TEST_F(CentreFileTest, WhatIsNoFileOfCentresIsAnError) {
  for (const std::string& bytes :
       {std::string(), std::string(100, 'x'), "fr-centres 1 " + std::string(60, '9'),
        "fr-centres 1 0123456789abcdef 3 " + std::string(40, ' ')}) {
    WriteFileAtomically(path(), bytes);
    EXPECT_THROW(CentreFile{path()}, Error) << bytes;
  }
}

}  // namespace
}  // namespace fr
