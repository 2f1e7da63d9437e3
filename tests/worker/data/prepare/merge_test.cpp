#include "worker/data/prepare/merge.h"

#include <filesystem>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/temporary_directory.h"
#include "tests/worker/data/files.h"
#include "tests/worker/data/killed.h"
#include "worker/data/records/record_check.h"
#include "worker/data/records/record_set.h"
#include "worker/data/records/record_set_writer.h"

namespace fr {
namespace {

using testing::ElementsAre;

struct Person {
  std::string name;
  std::vector<std::string> images;
};

class MergeTest : public testing::Test {
 protected:
  std::filesystem::path path(const std::string& name) const { return directory_.path() / name; }

  void Write(const std::string& set, const std::vector<Person>& people, bool named = true,
             int side = 16) const {
    RecordSetWriter writer(path(set), {}, named);
    for (const Person& person : people) writer.AddIdentity(person.images, person.name);
    writer.Finish(side, side);
  }

  // "label:image" of every image, in order of keys.
  std::vector<std::string> Read(const std::string& set) const {
    const RecordSet records(path(set));
    EXPECT_EQ(CheckRecords(path(set), 10, {}).num_faults, 0);
    std::vector<std::string> images;
    for (std::int64_t i = 0; i < records.num_images(); ++i) {
      Sample sample;
      records.Read(i, &sample);
      images.push_back(std::to_string(sample.identity) + ":" + std::string(sample.image));
    }
    return images;
  }

  TemporaryDirectory directory_;
};

TEST_F(MergeTest, IdentitiesOfLaterSetsFollow) {
  Write("a", {{"Ann", {"a1", "a2"}}, {"Bob", {"b1"}}});
  Write("b", {{"Cyd", {"c1"}}, {"Ann", {"a3"}}});
  MergeSets({path("a"), path("b")}, path("out"), {});
  EXPECT_THAT(Read("out"), ElementsAre("0:a1", "0:a2", "1:b1", "2:c1", "3:a3"));
  EXPECT_EQ(ReadFile(path("out") / "property"), "4,16,16\n");
  EXPECT_EQ(ReadFile(path("out") / "identities.txt"), "0\tAnn\n1\tBob\n2\tCyd\n3\tAnn\n");
}

TEST_F(MergeTest, SameNamesAreOneIdentity) {
  Write("a", {{"Ann", {"a1", "a2"}}, {"Bob", {"b1"}}});
  Write("b", {{"Cyd", {"c1"}}, {"Ann", {"a3"}}});
  MergeOptions options;
  options.same_names = true;
  MergeSets({path("a"), path("b")}, path("out"), options);
  EXPECT_THAT(Read("out"), ElementsAre("0:a1", "0:a2", "0:a3", "1:b1", "2:c1"));
  EXPECT_EQ(ReadFile(path("out") / "identities.txt"), "0\tAnn\n1\tBob\n2\tCyd\n");
  Write("c", {{"", {"x"}}}, false);
  EXPECT_THROW(MergeSets({path("a"), path("c")}, path("none"), options), Error);
}

TEST_F(MergeTest, NamesAreWrittenOnlyIfAllAreKnown) {
  Write("a", {{"Ann", {"a1"}}});
  Write("b", {{"", {"x"}}}, false);
  MergeSets({path("a"), path("b")}, path("out"), {});
  EXPECT_THAT(Read("out"), ElementsAre("0:a1", "1:x"));
  EXPECT_FALSE(std::filesystem::exists(path("out") / "identities.txt"));
}

TEST_F(MergeTest, AnotherSizeIsRefusedAndNothingIsThere) {
  Write("a", {{"Ann", {"a1"}}});
  Write("b", {{"Bob", {"b1"}}}, true, 32);
  EXPECT_THROW(MergeSets({path("a"), path("b")}, path("out"), {}), Error);
  EXPECT_FALSE(std::filesystem::exists(path("out") / "property"));
}

TEST_F(MergeTest, KilledAtAnyByteItEndsWithTheSameFiles) {
  std::vector<Person> people;
  for (int i = 0; i < 30; ++i) {
    people.push_back({fmt::format("p{}", i), {std::string(100 + 7 * i, 'x'), "y"}});
  }
  Write("a", people);
  Write("b", people);
  MergeOptions options;
  options.same_names = true;
  options.checkpoint_bytes = 1500;
  MergeSets({path("a"), path("b")}, path("whole"), options);
  const auto whole = FilesIn(path("whole"));
  const std::uint64_t size = whole.at("train.rec").size();
  for (std::uint64_t bytes = 77; bytes < size; bytes += size / 8) {
    std::filesystem::remove_all(path("out"));
    const auto merge = [&] { MergeSets({path("a"), path("b")}, path("out"), options); };
    EXPECT_FALSE(RunWithFilesUpTo(bytes, merge));
    merge();
    EXPECT_EQ(FilesIn(path("out")), whole) << bytes;
  }
}

}  // namespace
}  // namespace fr
