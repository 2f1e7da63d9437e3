#include "worker/data/prepare/shuffle.h"

#include <csignal>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/temporary_directory.h"
#include "tests/worker/data/files.h"
#include "tests/worker/data/killed.h"
#include "worker/data/records/record_check.h"
#include "worker/data/records/record_index.h"
#include "worker/data/records/record_set.h"
#include "worker/data/records/record_set_writer.h"

namespace fr {
namespace {

// Forty identities of ten images; every image's bytes are different.
class ShuffleTest : public testing::Test {
 protected:
  ShuffleTest() {
    RecordSetWriter writer(path("set"), {}, true);
    for (int i = 0; i < 40; ++i) {
      std::vector<std::string> images;
      for (int k = 0; k < 10; ++k) {
        images.push_back(std::to_string(10 * i + k) +
                         std::string(static_cast<std::size_t>(k), '.'));
      }
      writer.AddIdentity(images, fmt::format("p{}", i));
    }
    writer.Finish(16, 16);
    options_.memory_bytes = 4000;  // some ten buckets
    options_.checkpoint_bytes = 1000;
  }

  std::filesystem::path path(const std::string& name) const { return directory_.path() / name; }

  // Keys of the images as they lie in the file.
  std::vector<std::uint64_t> KeysInFile(const std::string& name) const {
    std::vector<std::uint64_t> keys;
    for (const IndexEntry& entry : ReadIndex(path(name) / "train.idx")) {
      if (entry.key >= 1 && entry.key <= 400) keys.push_back(entry.key);
    }
    return keys;
  }

  TemporaryDirectory directory_;
  ShuffleOptions options_;
};

TEST_F(ShuffleTest, OnlyThePlacesChange) {
  ShuffleSet(path("set"), path("out"), options_);
  const RecordSet before(path("set"));
  const RecordSet after(path("out"));
  ASSERT_EQ(after.num_images(), 400);
  for (std::int64_t i = 0; i < 400; ++i) {
    Sample a;
    Sample b;
    before.Read(i, &a);
    after.Read(i, &b);
    EXPECT_EQ(a.image, b.image);
    EXPECT_EQ(a.identity, b.identity);
  }
  EXPECT_EQ(after.ImagesByIdentity().begin, before.ImagesByIdentity().begin);
  EXPECT_EQ(CheckRecords(path("out"), 10, {}).num_faults, 0);
  EXPECT_EQ(ReadFile(path("out") / "identities.txt"), ReadFile(path("set") / "identities.txt"));
  EXPECT_EQ(FilesIn(path("out")).size(), 4U);  // no buckets are left
}

// Neighbours in the file are strangers: one in forty by chance shares its identity.
TEST_F(ShuffleTest, TheOrderIsRandom) {
  ShuffleSet(path("set"), path("out"), options_);
  const std::vector<std::uint64_t> keys = KeysInFile("out");
  EXPECT_EQ(std::set(keys.begin(), keys.end()).size(), 400U);
  int same_identity = 0;
  double moved = 0;
  for (std::size_t i = 0; i + 1 < keys.size(); ++i) {
    same_identity += (keys[i] - 1) / 10 == (keys[i + 1] - 1) / 10 ? 1 : 0;
    moved += std::abs(static_cast<double>(keys[i]) - static_cast<double>(i)) / 400;
  }
  EXPECT_LT(same_identity, 30);
  EXPECT_NEAR(moved / 400, 1.0 / 3, 0.05);  // the mean distance of two random places
}

TEST_F(ShuffleTest, TheOrderIsAFunctionOfTheSeed) {
  ShuffleSet(path("set"), path("one"), options_);
  options_.memory_bytes = 1 << 30;
  ShuffleSet(path("set"), path("two"), options_);
  EXPECT_EQ(FilesIn(path("one")), FilesIn(path("two")));
  options_.seed = 2;
  ShuffleSet(path("set"), path("three"), options_);
  EXPECT_NE(KeysInFile("three"), KeysInFile("one"));
  // A shuffled set is shuffled like any other.
  options_.seed = 1;
  ShuffleSet(path("three"), path("four"), options_);
  EXPECT_EQ(FilesIn(path("four")), FilesIn(path("one")));
}

TEST_F(ShuffleTest, TooLittleMemoryIsNamed) {
  options_.memory_bytes = 10;
  EXPECT_THROW(ShuffleSet(path("set"), path("out"), options_), Error);
}

TEST_F(ShuffleTest, KilledAtAnyByteItEndsWithTheSameFiles) {
  ShuffleSet(path("set"), path("whole"), options_);
  const auto whole = FilesIn(path("whole"));
  // The buckets are shorter than train.rec: small limits stop the first pass, others the second.
  for (const std::uint64_t bytes : {150U, 800U, 1500U, 5000U, 9000U, 15'000U}) {
    std::filesystem::remove_all(path("out"));
    const auto shuffle = [this] { ShuffleSet(path("set"), path("out"), options_); };
    EXPECT_FALSE(RunWithFilesUpTo(bytes, shuffle)) << bytes;
    EXPECT_FALSE(std::filesystem::exists(path("out") / "property"));
    shuffle();
    EXPECT_EQ(FilesIn(path("out")), whole) << bytes;
  }
}

}  // namespace
}  // namespace fr
