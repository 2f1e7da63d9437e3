#include "worker/data/shards/write_shards.h"

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "tests/python.h"
#include "tests/worker/data/grey_set.h"
#include "tests/worker/data/shard_files.h"
#include "worker/data/records/record_set.h"
#include "worker/data/shards/shard_index.h"
#include "worker/data/shards/tar_set.h"

namespace fr {
namespace {

class WriteShardsTest : public testing::Test {
 protected:
  // Identity and bytes of every image, in order.
  static std::vector<std::pair<std::int64_t, std::string>> Content(const TrainingSet& set) {
    std::vector<std::pair<std::int64_t, std::string>> content;
    for (std::int64_t i = 0; i < set.num_images(); ++i) {
      Sample sample;
      set.Read(i, &sample);
      content.emplace_back(sample.identity, sample.image);
    }
    return content;
  }

  std::filesystem::path shards() const { return grey_.directory() / "shards"; }

  GreySet grey_;
  RecordSet set_{grey_.path()};
};

TEST_F(WriteShardsTest, SpreadsASetOverShards) {
  ShardOptions options;
  options.shard_bytes = 10'000;
  const WrittenShards written = WriteShards(set_, shards(), options);
  EXPECT_EQ(written.num_images, 15);
  EXPECT_GT(written.num_shards, 1);
  for (const Shard& shard : ListShards(shards())) EXPECT_LE(shard.size_bytes, 10'000U);
  EXPECT_EQ(Content(TarSet(shards(), 1)), Content(set_));
  std::vector<Shard> listed = ListShards(shards());
  EXPECT_TRUE(ReadShardIndex(shards(), &listed));
}

TEST_F(WriteShardsTest, ShuffledTheImagesAreTheSameInAnotherOrder) {
  ShardOptions options;
  options.shuffle = true;
  WriteShards(set_, shards(), options);
  auto shuffled = Content(TarSet(shards(), 1));
  auto in_order = Content(set_);
  EXPECT_NE(shuffled, in_order);
  std::sort(shuffled.begin(), shuffled.end());
  std::sort(in_order.begin(), in_order.end());
  EXPECT_EQ(shuffled, in_order);
}

TEST_F(WriteShardsTest, PythonReadsThem) {
  WriteShards(set_, shards(), {});
  EXPECT_EQ(RunPython(grey_.directory(), R"(
import io, tarfile
from PIL import Image
with tarfile.open("shards/shard-000000.tar") as tar:
    members = tar.getmembers()
    assert [m.name for m in members[:2]] == ["000000000.jpg", "000000000.cls"]
    assert all(m.isreg() and m.mode == 0o644 for m in members)
    for picture, label in zip(members[::2], members[1::2]):
        grey = Image.open(io.BytesIO(tar.extractfile(picture).read())).getpixel((0, 0))[0]
        print(round(grey / 16), int(tar.extractfile(label).read()), end=" ")
)"),
            "0 0 1 0 2 0 3 1 4 1 5 1 6 2 7 2 8 2 9 3 10 3 11 3 12 4 13 4 14 4 ");
}

TEST_F(WriteShardsTest, WhatIsThereIsKept) {
  WriteTar(shards() / "mine.tar", {});
  EXPECT_THROW(WriteShards(set_, shards(), {}), Error);
  EXPECT_TRUE(std::filesystem::exists(shards() / "mine.tar"));
}

// Nothing is left of shards that could not be finished.
TEST_F(WriteShardsTest, AFailureLeavesNothing) {
  const auto other = grey_.directory() / "broken";
  RecordSetWriter writer(other);
  writer.AddIdentity({EncodeJpeg(Grey(16, 16, 1), 90), "no picture"});
  writer.Finish(16, 16);
  EXPECT_THROW(WriteShards(RecordSet(other), shards(), {}), Error);
  EXPECT_FALSE(std::filesystem::exists(shards()));
  EXPECT_FALSE(std::filesystem::exists(shards().string() + ".partial"));
}

}  // namespace
}  // namespace fr
