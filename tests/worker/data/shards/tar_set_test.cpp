#include "worker/data/shards/tar_set.h"

#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "tests/worker/data/grey_set.h"
#include "tests/worker/data/shard_files.h"
#include "worker/data/shards/shard_index.h"

namespace fr {
namespace {

// x2.tar with images of identities 3 and 0, x10.tar with one of identity 1.
class TarSetTest : public testing::Test {
 protected:
  TarSetTest() {
    WriteTar(path() / "x10.tar", {{"c.jpg", Picture(30)}, {"c.cls", "1"}});
    WriteTar(path() / "x2.tar",
             {{"a.jpg", Picture(10)}, {"a.cls", "3"}, {"b.jpg", Picture(20)}, {"b.cls", "0"}});
  }

  static std::string Picture(int value) { return EncodeJpeg(Grey(16, 24, value), 95); }

  // Writes shards.idx from the shards as they are.
  void Index() const {
    std::vector<Shard> shards = ListShards(path());
    ScanShards(path(), 1, &shards);
    WriteShardIndex(path(), shards);
  }

  // Whether the index describes the shards; a warning says why not.
  bool IndexIsUsed() const {
    std::vector<Shard> shards = ListShards(path());
    return ReadShardIndex(path(), &shards);
  }

  void ExpectWhole() const {
    const TarSet set(path(), 2);
    ASSERT_EQ(set.num_images(), 3);
    EXPECT_EQ(set.num_identities(), 4);
    EXPECT_EQ(set.height(), 16);
    EXPECT_EQ(set.width(), 24);
    const std::int64_t identities[] = {3, 0, 1};
    for (std::int64_t i = 0; i < 3; ++i) {
      Sample sample;
      set.Read(i, &sample);
      EXPECT_EQ(sample.identity, identities[i]);
      EXPECT_EQ(sample.image, Picture(10 * static_cast<int>(i + 1)));
    }
    EXPECT_THAT(set.ImagesByIdentity().begin, testing::ElementsAre(0, 1, 2, 2, 3));
    EXPECT_THAT(set.ImagesByIdentity().images, testing::ElementsAre(1, 2, 0));
    EXPECT_THAT(set.Describe(0), testing::EndsWith("faces/x2.tar: sample 0 at byte 512"));
    EXPECT_THAT(set.Describe(2), testing::EndsWith("faces/x10.tar: sample 0 at byte 512"));
    EXPECT_LT(set.StoragePosition(1), set.StoragePosition(2));
  }

  std::filesystem::path path() const { return directory_.path() / "faces"; }
  std::filesystem::path idx() const { return path() / "shards.idx"; }

  TemporaryDirectory directory_;
};

TEST_F(TarSetTest, ReadsShardsInNaturalOrder) { ExpectWhole(); }

TEST_F(TarSetTest, ReadsOneShardAlone) {
  const TarSet set(path() / "x10.tar", 1);
  EXPECT_EQ(set.num_images(), 1);
  EXPECT_EQ(set.num_identities(), 2);
}

TEST_F(TarSetTest, IsTheSameWithAnIndex) {
  Index();
  EXPECT_TRUE(IndexIsUsed());
  ExpectWhole();
  std::vector<Shard> shards = ListShards(path());
  ScanShards(path(), 2, &shards);
  EXPECT_EQ(ParseShardIndex(ReadFile(idx()), idx()), shards);
}

// Another shard, one that is gone, one that changed: the index is passed over, not believed.
TEST_F(TarSetTest, AStaleIndexIsPassedOver) {
  Index();
  std::filesystem::last_write_time(path() / "x2.tar", {});
  EXPECT_FALSE(IndexIsUsed());
  ExpectWhole();
  Index();
  std::filesystem::rename(path() / "x10.tar", path() / "x11.tar");
  EXPECT_FALSE(IndexIsUsed());
  std::filesystem::rename(path() / "x11.tar", path() / "x10.tar");
  EXPECT_TRUE(IndexIsUsed());
  WriteTar(path() / "x3.tar", {});
  EXPECT_FALSE(IndexIsUsed());
}

// Cut anywhere, or with any byte changed, the checksum tells.
TEST_F(TarSetTest, ADamagedIndexIsPassedOver) {
  Index();
  const std::string whole = ReadFile(idx());
  for (std::size_t i = 0; i < whole.size(); ++i) {
    EXPECT_THROW(ParseShardIndex(whole.substr(0, i), idx()), Error);
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x40);
    EXPECT_THROW(ParseShardIndex(damaged, idx()), Error);
  }
  WriteFileAtomically(idx(), whole.substr(0, whole.size() / 2));
  EXPECT_FALSE(IndexIsUsed());
  ExpectWhole();
}

TEST_F(TarSetTest, ATruncatedShardIsNamed) {
  std::filesystem::resize_file(path() / "x2.tar", 700);
  try {
    const TarSet set(path(), 2);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
    EXPECT_THAT(error.what(), testing::HasSubstr("x2.tar: byte 0"));
  }
}

TEST_F(TarSetTest, ShardsWithoutSamplesAreNamed) {
  WriteTar(directory_.path() / "other/a.tar", {{"README", "x"}});
  EXPECT_THROW(TarSet(directory_.path() / "other", 1), Error);
}

}  // namespace
}  // namespace fr
