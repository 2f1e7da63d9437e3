#include "worker/data/loader.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "tests/worker/data/grey_set.h"
#include "worker/data/records/record_set.h"

namespace fr {
namespace {

class LoaderTest : public testing::Test {
 protected:
  std::filesystem::path path() const { return set_.path(); }

  GreySet set_;
};

// Two ranks together see in an epoch what one rank sees, in the same order: every image once.
TEST_F(LoaderTest, RanksShareTheGlobalBatch) {
  const RecordSet set(path());
  const auto labels = [&set](std::int64_t begin, std::int64_t end, int threads, int batches) {
    LoaderOptions options;
    options.total_batch = 5;
    options.slice_begin = begin;
    options.slice_end = end;
    options.threads = threads;
    Loader loader(set, options);
    std::vector<std::vector<int>> all;
    for (int i = 0; i < batches; ++i) {
      Batch batch;
      loader.Next(&batch);
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
TEST_F(LoaderTest, TheOrderIsAFunctionOfThePosition) {
  const RecordSet set(path());
  LoaderOptions options;
  options.total_batch = options.slice_end = 4;  // 15 images: 3 batches an epoch, 3 images left over
  Loader from_start(set, options);
  Batch a;
  Batch b;
  for (int i = 0; i < 4; ++i) from_start.Next(&a);
  options.start_epoch = 1;
  options.start_samples = 4;
  Loader continued(set, options);
  for (int i = 0; i < 5; ++i) {
    from_start.Next(&a);
    continued.Next(&b);
    EXPECT_EQ(a.labels, b.labels);
    EXPECT_EQ(a.images, b.images);
  }
}

// A step of two batches is not begun with images for one: of 15 images, three times 2 + 2 are used.
TEST_F(LoaderTest, AnEpochEndsWithAWholeStep) {
  const RecordSet set(path());
  LoaderOptions options;
  options.total_batch = options.slice_end = 2;
  options.batches_per_step = 2;
  Loader parts(set, options);
  options.total_batch = options.slice_end = 4;
  options.batches_per_step = 1;
  Loader whole(set, options);
  Batch step;
  Batch first;
  Batch second;
  for (int i = 0; i < 8; ++i) {
    whole.Next(&step);
    parts.Next(&first);
    parts.Next(&second);
    first.images.insert(first.images.end(), second.images.begin(), second.images.end());
    EXPECT_EQ(first.images, step.images) << "step " << i;
  }
}

TEST_F(LoaderTest, ABrokenImageEndsTheLoaderWithItsName) {
  const auto other = set_.directory() / "broken";
  RecordSetWriter writer(other);
  writer.AddIdentity({EncodeJpeg(Grey(16, 16, 1), 90), "no picture"});
  writer.Finish(16, 16);
  const RecordSet set(other);
  LoaderOptions options;
  options.total_batch = options.slice_end = 2;
  Loader loader(set, options);
  try {
    Batch batch;
    loader.Next(&batch);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
    EXPECT_THAT(error.what(), testing::HasSubstr("train.rec: key 2 at byte"));
  }
}

class BrokenSetTest : public LoaderTest {
 protected:
  // Ten images, grey value 20 k, of which those named are broken.
  std::filesystem::path MakeSet(const std::set<int>& broken) const {
    const auto path = set_.directory() / "broken";
    RecordSetWriter writer(path);
    for (int identity = 0; identity < 5; ++identity) {
      std::vector<std::string> images;
      for (int k = 2 * identity; k < 2 * identity + 2; ++k) {
        images.push_back(broken.contains(k) ? "no picture" : EncodeJpeg(Grey(16, 16, 20 * k), 95));
      }
      writer.AddIdentity(images);
    }
    writer.Finish(16, 16);
    return path;
  }

  // The images of so many epochs, by their grey values.
  static std::vector<int> Seen(Loader* loader, int epochs) {
    std::vector<int> seen;
    Batch batch;
    for (int i = 0; i < 2 * epochs; ++i) {
      loader->Next(&batch);
      for (std::size_t k = 0; k < batch.labels.size(); ++k) {
        seen.push_back((batch.images[k * 16 * 16 * 3] + 10) / 20);
        EXPECT_EQ(batch.labels[k], seen.back() / 2);
      }
    }
    return seen;
  }
};

// The next image takes the place of a broken one, whoever comes across it; each is counted once,
// however often it comes.
TEST_F(BrokenSetTest, BadRecordsAreLeftOut) {
  const RecordSet set(MakeSet({3, 4, 9}));
  LoaderOptions options;
  options.total_batch = options.slice_end = 5;
  options.max_bad_records = 3;
  Loader loader(set, options);
  const std::vector<int> seen = Seen(&loader, 3);
  for (int epoch = 0; epoch < 3; ++epoch) {
    const auto begin = seen.begin() + epoch * 10;
    EXPECT_THAT(std::vector(begin, begin + 10),
                testing::UnorderedElementsAre(0, 0, 1, 2, 5, 5, 5, 6, 7, 8));
  }
  EXPECT_EQ(loader.bad_records(), 3);
  options.threads = 4;
  Loader parallel(set, options);
  EXPECT_EQ(Seen(&parallel, 3), seen);
}

TEST_F(BrokenSetTest, OneBadRecordTooManyEndsTheLoader) {
  const RecordSet set(MakeSet({3, 4, 9}));
  LoaderOptions options;
  options.total_batch = options.slice_end = 5;
  options.max_bad_records = 2;
  Loader loader(set, options);
  try {
    Seen(&loader, 1);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
    EXPECT_THAT(error.what(), testing::AllOf(testing::HasSubstr("max_bad_records is 2"),
                                             testing::HasSubstr("train.rec: key ")));
  }
}

TEST_F(BrokenSetTest, ASetOfBrokenImagesEndsTheLoader) {
  const RecordSet set(MakeSet({0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  LoaderOptions options;
  options.total_batch = options.slice_end = 5;
  options.max_bad_records = 100;
  Loader loader(set, options);
  EXPECT_THROW(Seen(&loader, 1), Error);
}

// Augmented or not, what an image becomes does not depend on ranks and threads.
TEST_F(LoaderTest, AugmentationDependsOnThePositionAlone) {
  const RecordSet set(path());
  const auto images = [&set](std::int64_t begin, std::int64_t end, int threads) {
    LoaderOptions options;
    options.augment = {0.5, 0.5, 0.5, 0.5, 0.5, 0.5};
    options.total_batch = 5;
    options.slice_begin = begin;
    options.slice_end = end;
    options.threads = threads;
    Loader loader(set, options);
    std::vector<std::uint8_t> all;
    Batch batch;
    for (int i = 0; i < 4; ++i) {
      loader.Next(&batch);
      const auto image = batch.images.begin() + (begin == 0 ? 3 : 0) * 16 * 16 * 3;
      all.insert(all.end(), image, image + 16 * 16 * 3);  // the global batch's image 3
    }
    return all;
  };
  EXPECT_EQ(images(0, 5, 1), images(3, 5, 3));
}

// Batches of several windows, and windows of several batches, over epochs.
TEST_F(LoaderTest, WindowsNeedNotFitTheBatch) {
  const RecordSet set(path());
  for (const std::int64_t window : {1, 2, 4, 7, 15, 100}) {
    LoaderOptions options;
    options.sampler.sampling = Sampling::kWindows;
    options.sampler.window = window;
    options.total_batch = options.slice_end = 5;
    Loader loader(set, options);
    Batch batch;
    for (int epoch = 0; epoch < 3; ++epoch) {
      std::set<int> seen;
      for (int i = 0; i < 3; ++i) {
        loader.Next(&batch);
        for (int k = 0; k < 5; ++k) seen.insert((batch.images[k * 16 * 16 * 3] + 8) / 16);
      }
      EXPECT_EQ(seen.size(), 15U) << "window " << window;
    }
  }
}

// Four batches' memory goes round, and no more is asked for.
TEST_F(LoaderTest, MemoryIsUsedAgain) {
  const RecordSet set(path());
  LoaderOptions options;
  options.total_batch = options.slice_end = 5;
  Loader loader(set, options);
  std::set<const std::uint8_t*> memory;
  Batch batch;
  for (int i = 0; i < 50; ++i) {
    loader.Next(&batch);
    memory.insert(batch.images.data());
  }
  EXPECT_LE(memory.size(), 5U);
}

// A loader that nobody asks any more ends at once.
TEST_F(LoaderTest, ALoaderEndsWithBatchesUntaken) {
  const RecordSet set(path());
  for (int i = 0; i < 20; ++i) {
    LoaderOptions options;
    options.total_batch = options.slice_end = 5;
    options.threads = 4;
    const Loader loader(set, options);
  }
}

}  // namespace
}  // namespace fr
