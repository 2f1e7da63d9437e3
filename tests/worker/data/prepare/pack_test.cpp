#include "worker/data/prepare/pack.h"

#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "tests/worker/data/files.h"
#include "tests/worker/data/grey_set.h"
#include "tests/worker/data/killed.h"
#include "worker/data/records/record_set.h"

namespace fr {
namespace {

TEST(PackFolder, PacksATreeAndHoldsIdentitiesOut) {
  const TemporaryDirectory directory;
  for (const char* name : {"s1", "s2", "s10", "s11"}) {
    std::filesystem::create_directories(directory.path() / "tree" / name);
    for (int i = 0; i < 4; ++i) {
      const auto file = directory.path() / "tree" / name / std::to_string(i);
      if (i == 0) {
        WriteFileAtomically(file.string() + ".pgm",
                            "P5\n# a comment\n92 112\n255\n" + std::string(92 * 112, 'x'));
      } else {
        WriteFileAtomically(file.string() + ".jpg", EncodeJpeg(Grey(112, 112, 50 * i), 90));
      }
    }
  }
  PackOptions options;
  options.held_out_identities = 2;
  const PackedSet packed = PackFolder(directory.path() / "tree", directory.path() / "set", options);
  EXPECT_EQ(packed.num_identities, 2);
  EXPECT_EQ(packed.num_images, 8);
  EXPECT_EQ(packed.held_out.size(), 2U);
  EXPECT_EQ(packed.num_pairs, 24);
  const RecordSet set(directory.path() / "set");
  Sample sample;
  set.Read(0, &sample);
  EXPECT_EQ(DecodeImage(sample.image).width, 112);
  // A JPEG of the right size is kept as it was.
  set.Read(1, &sample);
  EXPECT_EQ(sample.image, EncodeJpeg(Grey(112, 112, 50), 90));
  // Held-out people are in nobody's training set, and numbers count as numbers.
  const std::string names = ReadFile(directory.path() / "set" / "identities.txt");
  for (const std::string& name : packed.held_out) {
    EXPECT_EQ(names.find("\t" + name + "\n"), std::string::npos);
  }
  EXPECT_THROW(PackFolder(directory.path() / "none", directory.path() / "x", options), Error);
  options.held_out_identities = 4;
  EXPECT_THROW(PackFolder(directory.path() / "tree", directory.path() / "x", options), Error);
}

TEST(PackFolder, ABrokenPictureIsNamedOrLeftOut) {
  const TemporaryDirectory directory;
  std::filesystem::create_directories(directory.path() / "tree/a");
  WriteFileAtomically(directory.path() / "tree/a/good.jpg", EncodeJpeg(Grey(112, 112, 9), 90));
  WriteFileAtomically(directory.path() / "tree/a/bad.jpg", "\xff\xd8 no more");
  try {
    PackFolder(directory.path() / "tree", directory.path() / "set", {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("bad.jpg"));
  }
  PackOptions options;
  options.skip_broken = true;
  const PackedSet packed = PackFolder(directory.path() / "tree", directory.path() / "set", options);
  EXPECT_EQ(packed.num_images, 1);
  ASSERT_EQ(packed.broken.size(), 1U);
}

// Twelve identities of up to nine tiny pictures; two are broken.
class StoppedPackTest : public testing::Test {
 protected:
  StoppedPackTest() {
    for (int identity = 0; identity < 12; ++identity) {
      const auto folder = tree() / fmt::format("id{}", identity);
      std::filesystem::create_directories(folder);
      for (int i = 0; i < 3 + identity * 5 % 7; ++i) {
        const bool broken = identity % 7 == 3 && i == 1;
        WriteFileAtomically(
            folder / fmt::format("{}.jpg", i),
            broken ? "\xff\xd8 no more" : EncodeJpeg(Grey(16, 16, 16 * identity + i), 90));
      }
    }
    options_.side = 16;
    options_.held_out_identities = 3;
    options_.max_pairs = 20;
    options_.skip_broken = true;
    options_.checkpoint_bytes = 3000;
    PackFolder(tree(), directory_.path() / "whole", options_);
  }

  std::filesystem::path tree() const { return directory_.path() / "tree"; }
  std::filesystem::path set() const { return directory_.path() / "set"; }
  std::map<std::string, std::string> Whole() const { return FilesIn(directory_.path() / "whole"); }

  TemporaryDirectory directory_;
  PackOptions options_;
};

TEST_F(StoppedPackTest, KilledAtAnyByteItEndsWithTheSameFiles) {
  const auto whole = Whole();
  const std::uint64_t size = whole.at("train.rec").size();
  int killed = 0;
  for (std::uint64_t bytes = 1; bytes < size; bytes += size / 12) {
    std::filesystem::remove_all(set());
    const bool ended = RunWithFilesUpTo(bytes, [this] { PackFolder(tree(), set(), options_); });
    killed += ended ? 0 : 1;
    EXPECT_FALSE(std::filesystem::exists(set() / "property"));
    const PackedSet packed = PackFolder(tree(), set(), options_);
    EXPECT_EQ(FilesIn(set()), whole) << bytes;
    EXPECT_EQ(packed.broken.size(), 2U) << bytes;
  }
  EXPECT_GE(killed, 12);
}

// Each run comes to the fortieth picture only, fewer than there are; the next one goes on.
TEST_F(StoppedPackTest, KilledAgainAndAgainItGetsThere) {
  options_.held_out_identities = 0;
  options_.prepare = [](const std::filesystem::path&, Image image) { return image; };
  const PackedSet whole = PackFolder(tree(), directory_.path() / "prepared", options_);
  ASSERT_GT(whole.num_images, 40);
  PackOptions options = options_;
  options.prepare = [left = 40](const std::filesystem::path&, Image image) mutable {
    if (--left == 0) raise(SIGKILL);
    return image;
  };
  int runs = 1;
  while (!RunInChild([&] { PackFolder(tree(), set(), options); }) && runs < 5) ++runs;
  EXPECT_GT(runs, 1);
  EXPECT_LT(runs, 5);
  EXPECT_EQ(FilesIn(set()), FilesIn(directory_.path() / "prepared"));
}

TEST_F(StoppedPackTest, OtherOptionsOrPicturesStartAnew) {
  const auto stop = [&] {
    std::filesystem::remove_all(set());
    EXPECT_FALSE(RunWithFilesUpTo(Whole().at("train.rec").size() * 9 / 10,
                                  [this] { PackFolder(tree(), set(), options_); }));
  };
  std::string said;
  options_.report.say = [&said](const std::string& line) { said += line; };
  stop();
  PackFolder(tree(), set(), options_);
  EXPECT_THAT(said, testing::HasSubstr("going on"));
  stop();
  said.clear();
  PackOptions other = options_;
  other.seed = 2;
  PackFolder(tree(), set(), other);
  EXPECT_THAT(said, testing::HasSubstr("anew"));
  stop();
  said.clear();
  WriteFileAtomically(tree() / "id5" / "more.jpg", EncodeJpeg(Grey(16, 16, 7), 90));
  PackFolder(tree(), set(), options_);
  EXPECT_THAT(said, testing::HasSubstr("anew"));
}

// Whoever met a broken picture after hours goes on from there with --skip-broken.
TEST_F(StoppedPackTest, ABrokenPictureCostsNothingBeforeIt) {
  options_.held_out_identities = 0;
  const PackedSet whole = PackFolder(tree(), directory_.path() / "all", options_);
  options_.skip_broken = false;
  // The broken one of the later identity alone.
  std::filesystem::remove(tree() / "id3" / "1.jpg");
  EXPECT_THROW(PackFolder(tree(), set(), options_), Error);
  options_.skip_broken = true;
  std::string said;
  options_.report.say = [&said](const std::string& line) { said += line; };
  const PackedSet packed = PackFolder(tree(), set(), options_);
  EXPECT_THAT(said, testing::HasSubstr("going on"));
  EXPECT_EQ(packed.num_images, whole.num_images);
  EXPECT_EQ(packed.broken.size(), 1U);
}

}  // namespace
}  // namespace fr
