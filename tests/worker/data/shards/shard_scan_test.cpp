#include "worker/data/shards/shard_scan.h"

#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "tests/worker/data/shard_files.h"

namespace fr {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class ScanShardTest : public testing::Test {
 protected:
  // "picture: label", in the order of the shard; or the error.
  std::vector<std::string> Scan(const std::vector<std::pair<std::string, std::string>>& files) {
    const auto path = directory_.path() / "a.tar";
    WriteTar(path, files);
    const std::string archive = ReadFile(path);
    std::vector<std::string> samples;
    try {
      for (const ShardSample& sample : ScanShard(archive, "a.tar")) {
        samples.push_back(archive.substr(sample.offset, sample.length) + ": " +
                          std::to_string(sample.label));
      }
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
      samples = {error.what()};
    }
    return samples;
  }

  TemporaryDirectory directory_;
};

TEST_F(ScanShardTest, FilesOfOneNameAreASample) {
  EXPECT_THAT(Scan({{"a/1.jpg", "one"},
                    {"a/1.cls", "7"},
                    {"b/1.cls", " 3\n"},  // another folder: another sample
                    {"b/1.PNG", "two"},
                    {"b/2.json", R"({"name": "x", "label": 5})"},
                    {"b/2.jpeg", "three"},
                    {"2.json", R"({"cls": 0})"},
                    {"2.jpg", "four"}}),
              testing::ElementsAre("one: 7", "two: 3", "three: 5", "four: 0"));
}

// The extension is all behind the first dot, as in WebDataset.
TEST_F(ScanShardTest, OtherFilesArePassedOver) {
  EXPECT_THAT(Scan({{"README", "x"},
                    {".hidden", "x"},
                    {"about.json", R"({"label": "text"})"},
                    {"1.seg.png", "mask"},
                    {"1.jpg", "one"},
                    {"1.cls", "1"},
                    {"1.json", "[no json"},
                    {"1.txt", "Ada"},
                    {"2.txt", "alone"}}),
              testing::ElementsAre("one: 1"));
}

TEST_F(ScanShardTest, ASampleThatLacksSomethingIsNamed) {
  const auto named = AllOf(HasSubstr("a.tar: sample \"1\" at byte 512"));
  EXPECT_THAT(Scan({{"1.jpg", "one"}}), testing::ElementsAre(AllOf(named, HasSubstr("no label"))));
  EXPECT_THAT(Scan({{"1.jpg", "one"}, {"1.json", "{}"}}),
              testing::ElementsAre(AllOf(named, HasSubstr("no label"))));
  EXPECT_THAT(Scan({{"1.cls", "1"}}), testing::ElementsAre(AllOf(named, HasSubstr("no picture"))));
  EXPECT_THAT(Scan({{"1.jpg", "x"}, {"1.png", "x"}}),
              testing::ElementsAre(AllOf(named, HasSubstr("two pictures"))));
  EXPECT_THAT(Scan({{"1.cls", "1"}, {"1.cls", "1"}}),
              testing::ElementsAre(AllOf(named, HasSubstr("two labels"))));
}

TEST_F(ScanShardTest, ALabelThatIsNoneIsNamed) {
  for (const char* label : {"", " ", "x", "1.5", "1 2", "99999999999999999999"}) {
    EXPECT_THAT(Scan({{"1.cls", label}, {"1.jpg", "x"}}),
                testing::ElementsAre(HasSubstr("not an integer")));
  }
  for (const char* label : {"-1", "2147483647", "9223372036854775807"}) {
    EXPECT_THAT(Scan({{"1.cls", label}, {"1.jpg", "x"}}),
                testing::ElementsAre(HasSubstr("its label is")));
  }
}

}  // namespace
}  // namespace fr
