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
#include "worker/data/record_set.h"

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
