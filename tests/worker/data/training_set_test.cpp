#include "worker/data/training_set.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "tests/temporary_directory.h"
#include "worker/data/image.h"
#include "worker/data/loader.h"
#include "worker/data/pack.h"
#include "worker/data/sample_order.h"
#include "worker/data/synth/synthetic_set.h"
#include "worker/data/verification_set.h"

namespace fr {
namespace {

Image Grey(int height, int width, int value) {
  return {height, width,
          std::vector<std::uint8_t>(static_cast<std::size_t>(height * width * 3),
                                    static_cast<std::uint8_t>(value))};
}

// Five identities of three images; image k has grey value 16 k.
class TrainingSetTest : public testing::Test {
 protected:
  TrainingSetTest() {
    TrainingSetWriter writer(path());
    for (int identity = 0; identity < 5; ++identity) {
      std::vector<std::string> images;
      for (int i = 0; i < 3; ++i) {
        images.push_back(EncodeJpeg(Grey(16, 16, 16 * (3 * identity + i)), 95));
      }
      writer.AddIdentity(images);
    }
    writer.Finish(16, 16);
  }

  std::filesystem::path path() const { return directory_.path() / "set"; }

  std::string ErrorOfOpening() {
    try {
      TrainingSet::Open(path());
    } catch (const Error& error) {
      return fmt::format("{}: {}", ErrorCodeName(error.code()), error.what());
    }
    return "";
  }

  void Truncate(const char* name, double share) {
    const auto file = path() / name;
    std::filesystem::resize_file(
        file, static_cast<std::uintmax_t>(share * std::filesystem::file_size(file)));
  }

  TemporaryDirectory directory_;
};

TEST_F(TrainingSetTest, HasItsImagesAndIdentities) {
  const TrainingSet set = TrainingSet::Open(path());
  EXPECT_EQ(set.num_images(), 15);
  EXPECT_EQ(set.num_identities(), 5);
  EXPECT_THAT(set.images_per_identity(), testing::ElementsAre(3, 3, 3, 3, 3));
  for (int i = 0; i < 15; ++i) {
    ImageRecord record;
    EXPECT_EQ(set.Read(i, &record), i / 3);
    EXPECT_NEAR(DecodeImage(record.image).pixels[0], 16 * i, 2);
  }
}

// Every way in which a copy goes wrong is found when the set is opened, not hours later.
TEST_F(TrainingSetTest, ATruncatedSetIsFoundAtOnce) {
  Truncate("train.rec", 0.5);
  EXPECT_THAT(ErrorOfOpening(),
              testing::AllOf(testing::StartsWith("DATA_LOSS"), testing::HasSubstr("train.rec")));
}

TEST_F(TrainingSetTest, ATruncatedIndexIsFoundAtOnce) {
  Truncate("train.idx", 0.5);
  EXPECT_THAT(ErrorOfOpening(), testing::StartsWith("DATA_LOSS"));
}

TEST_F(TrainingSetTest, AWrongPropertyIsNamed) {
  for (const char* text : {"", "5", "5,16", "5;16;16", "0,16,16", "5,16,-1", "five,16,16"}) {
    WriteFileAtomically(path() / "property", text);
    EXPECT_THAT(ErrorOfOpening(), testing::AllOf(testing::StartsWith("DATA_LOSS"),
                                                 testing::HasSubstr("85742,112,112")))
        << text;
  }
}

TEST_F(TrainingSetTest, ALabelBeyondTheIdentitiesIsNamed) {
  WriteFileAtomically(path() / "property", "4,16,16");
  const TrainingSet set = TrainingSet::Open(path());
  ImageRecord record;
  EXPECT_THROW(set.Read(14, &record), Error);
}

TEST_F(TrainingSetTest, ASetIsNotOverwritten) { EXPECT_THROW(TrainingSetWriter{path()}, Error); }

// Two ranks together see in an epoch what one rank sees, in the same order: every image once.
TEST_F(TrainingSetTest, RanksShareTheGlobalBatch) {
  const TrainingSet set = TrainingSet::Open(path());
  const auto labels = [&set](std::int64_t begin, std::int64_t end, int threads, int batches) {
    LoaderOptions options;
    options.total_batch = 5;
    options.slice_begin = begin;
    options.slice_end = end;
    options.threads = threads;
    Loader loader(set, options);
    std::vector<std::vector<int>> all;
    for (int i = 0; i < batches; ++i) {
      const Batch batch = loader.Next();
      std::vector<int> seen;
      for (std::size_t k = 0; k < batch.labels.size(); ++k) {
        // The grey value tells the image.
        seen.push_back((batch.images[k * 16 * 16 * 3] + 8) / 16);
        EXPECT_EQ(batch.labels[k], seen.back() / 3);
      }
      all.push_back(seen);
    }
    return all;
  };
  const auto whole = labels(0, 5, 1, 6);
  const auto first = labels(0, 2, 3, 6);
  const auto second = labels(2, 5, 2, 6);
  std::multiset<int> epoch;
  for (int i = 0; i < 6; ++i) {
    std::vector<int> joined = first[i];
    joined.insert(joined.end(), second[i].begin(), second[i].end());
    EXPECT_EQ(joined, whole[i]);
    if (i < 3) epoch.insert(whole[i].begin(), whole[i].end());
  }
  EXPECT_EQ(std::set<int>(epoch.begin(), epoch.end()).size(), 15U);
  EXPECT_NE(std::vector(whole.begin(), whole.begin() + 3),
            std::vector(whole.begin() + 3, whole.end()));  // another order each epoch
}

// A run that continues sees what it would have seen.
TEST_F(TrainingSetTest, TheOrderIsAFunctionOfThePosition) {
  const TrainingSet set = TrainingSet::Open(path());
  LoaderOptions options;
  options.total_batch = options.slice_end = 4;  // 15 images: 3 batches an epoch, 3 images left over
  Loader from_start(set, options);
  for (int i = 0; i < 4; ++i) from_start.Next();
  options.start_epoch = 1;
  options.start_samples = 4;
  Loader continued(set, options);
  for (int i = 0; i < 5; ++i) {
    const Batch a = from_start.Next();
    const Batch b = continued.Next();
    EXPECT_EQ(a.labels, b.labels);
    EXPECT_EQ(a.images, b.images);
  }
}

TEST_F(TrainingSetTest, ABrokenImageEndsTheLoaderWithItsName) {
  const auto other = directory_.path() / "broken";
  TrainingSetWriter writer(other);
  writer.AddIdentity({EncodeJpeg(Grey(16, 16, 1), 90), "no picture"});
  writer.Finish(16, 16);
  const TrainingSet set = TrainingSet::Open(other);
  LoaderOptions options;
  options.total_batch = options.slice_end = 2;
  Loader loader(set, options);
  try {
    loader.Next();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
    EXPECT_THAT(error.what(), testing::HasSubstr("image 1"));
  }
}

// A loader that nobody asks any more ends at once.
TEST_F(TrainingSetTest, ALoaderEndsWithBatchesUntaken) {
  const TrainingSet set = TrainingSet::Open(path());
  for (int i = 0; i < 20; ++i) {
    LoaderOptions options;
    options.total_batch = options.slice_end = 5;
    options.threads = 4;
    const Loader loader(set, options);
  }
}

TEST(SampleOrder, IsAPermutation) {
  for (const std::int64_t count : {1, 2, 3, 15, 16, 17, 1000, 4096, 4097}) {
    const SampleOrder order(1, 0, count);
    std::vector<bool> seen(static_cast<std::size_t>(count), false);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t sample = order[i];
      ASSERT_TRUE(sample >= 0 && sample < count);
      EXPECT_FALSE(seen[static_cast<std::size_t>(sample)]);
      seen[static_cast<std::size_t>(sample)] = true;
    }
  }
}

// Neighbours in the file are not neighbours in training: the mean distance of a random order is a
// third of the count.
TEST(SampleOrder, IsShuffled) {
  constexpr std::int64_t kCount = 100'000;
  const SampleOrder order(1, 0, kCount);
  double distance = 0;
  std::int64_t flips = 0;
  for (std::int64_t i = 0; i + 1 < kCount; ++i) {
    distance += std::abs(static_cast<double>(order[i + 1] - order[i])) / kCount;
    flips += order.Flip(i) ? 1 : 0;
  }
  EXPECT_NEAR(distance / kCount, 1.0 / 3, 0.01);
  EXPECT_NEAR(static_cast<double>(flips) / kCount, 0.5, 0.01);
}

TEST(SyntheticSet, IsAFunctionOfItsSeed) {
  const TemporaryDirectory directory;
  SyntheticSetOptions options;
  options.identities = 3;
  options.images_per_identity = 2;
  options.held_out_identities = 3;
  options.max_pairs = 20;
  const auto make = [&](const char* name, std::uint64_t seed, int threads) {
    options.seed = seed;
    options.threads = threads;
    WriteSyntheticSet(directory.path() / name, options);
    return ReadFile(directory.path() / name / "train.rec") +
           ReadFile(directory.path() / name / "synth.bin");
  };
  const std::string one = make("one", 1, 1);
  EXPECT_EQ(one, make("again", 1, 4));
  EXPECT_NE(one, make("other", 2, 1));
  const auto set = VerificationSet::Open(directory.path() / "one" / "synth.bin");
  EXPECT_EQ(set.num_pairs(), 20);
  EXPECT_EQ(DecodeImage(set.image(0)).height, 112);
}

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
  const TrainingSet set = TrainingSet::Open(directory.path() / "set");
  ImageRecord record;
  set.Read(0, &record);
  EXPECT_EQ(DecodeImage(record.image).width, 112);
  // A JPEG of the right size is kept as it was.
  set.Read(1, &record);
  EXPECT_EQ(record.image, EncodeJpeg(Grey(112, 112, 50), 90));
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

}  // namespace
}  // namespace fr
