#include "worker/data/sampler.h"

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"

namespace fr {
namespace {

// Identity i has sizes[i] images; image k lies at place `places[k]`, or k without places.
class FakeSet : public TrainingSet {
 public:
  explicit FakeSet(const std::vector<int>& sizes, std::vector<std::uint64_t> places = {})
      : places_(std::move(places)) {
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      identities_.insert(identities_.end(), static_cast<std::size_t>(sizes[i]),
                         static_cast<std::int64_t>(i));
    }
    num_identities_ = std::ssize(sizes);
  }

  std::int64_t num_images() const override { return std::ssize(identities_); }
  std::int64_t num_identities() const override { return num_identities_; }
  int height() const override { return 1; }
  int width() const override { return 1; }
  const std::filesystem::path& path() const override { return path_; }
  void Read(std::int64_t index, Sample* sample) const override {
    sample->identity = identity(index);
  }
  std::string Describe(std::int64_t) const override { return ""; }
  std::uint64_t StoragePosition(std::int64_t index) const override {
    return places_.empty() ? static_cast<std::uint64_t>(index)
                           : places_[static_cast<std::size_t>(index)];
  }
  void Prefetch(std::int64_t first, std::int64_t last) const override {
    prefetched.emplace_back(first, last);
  }
  IdentityImages ImagesByIdentity() const override {
    return GroupByIdentity(identities_, num_identities_);
  }

  std::int64_t identity(std::int64_t index) const {
    return identities_[static_cast<std::size_t>(index)];
  }

  mutable std::vector<std::pair<std::int64_t, std::int64_t>> prefetched;

 private:
  std::filesystem::path path_ = "fake";
  std::vector<std::int64_t> identities_;
  std::int64_t num_identities_ = 0;
  std::vector<std::uint64_t> places_;
};

SamplerOptions Options(Sampling sampling, std::int64_t window = 10) {
  SamplerOptions options;
  options.sampling = sampling;
  options.window = window;
  return options;
}

std::vector<std::int64_t> Epoch(const Sampler& sampler, std::int64_t epoch) {
  std::vector<std::int64_t> images;
  for (std::int64_t p = 0; p < sampler.epoch_size(); ++p) images.push_back(sampler(epoch, p));
  return images;
}

// Whatever the order, an epoch has every image once, and the next epoch has another order.
TEST(Sampler, AnEpochHasEveryImageOnce) {
  for (const Sampling sampling : {Sampling::kShuffled, Sampling::kWindows}) {
    for (const int images : {1, 7, 10, 11, 95, 100}) {
      const FakeSet set({images});
      const Sampler sampler(set, Options(sampling));
      for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
        std::vector<std::int64_t> order = Epoch(sampler, epoch);
        std::sort(order.begin(), order.end());
        for (int i = 0; i < images; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
      }
      if (images > 10) {
        EXPECT_NE(Epoch(sampler, 0), Epoch(sampler, 1));
      }
    }
  }
}

// Ten images in a row are ten neighbours on the disk, wherever their keys lie.
TEST(Sampler, AWindowIsOneStretchOfTheDisk) {
  std::vector<std::uint64_t> places;
  for (std::uint64_t i = 0; i < 100; ++i) places.push_back(i * 37 % 101);
  const FakeSet set({100}, places);
  std::vector<std::uint64_t> sorted = places;
  std::sort(sorted.begin(), sorted.end());
  const Sampler sampler(set, Options(Sampling::kWindows));
  std::set<std::int64_t> begins;
  for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
    for (std::int64_t window = 0; window < 10; ++window) {
      std::set<std::int64_t> ranks;
      for (std::int64_t p = window * 10; p < window * 10 + 10; ++p) {
        const std::uint64_t place = set.StoragePosition(sampler(epoch, p));
        ranks.insert(std::lower_bound(sorted.begin(), sorted.end(), place) - sorted.begin());
      }
      // One stretch, which may go on at the front of the file.
      int jumps = 0;
      for (const std::int64_t rank : ranks) jumps += ranks.contains((rank + 1) % 100) ? 0 : 1;
      EXPECT_EQ(ranks.size(), 10U);
      EXPECT_EQ(jumps, 1);
      begins.insert(*ranks.begin());
    }
  }
  // Windows are cut elsewhere in every epoch.
  EXPECT_GT(begins.size(), 20U);
}

TEST(Sampler, WindowsAreReadAheadWhole) {
  const FakeSet set({95});
  const Sampler sampler(set, Options(Sampling::kWindows));
  const auto read_ahead = [&](std::int64_t begin, std::int64_t end) {
    set.prefetched.clear();
    sampler.Prefetch(0, begin, end);
    std::set<std::int64_t> images;
    for (const auto& [first, last] : set.prefetched) {
      for (std::int64_t image = first; image <= last; ++image) images.insert(image);
    }
    return images;
  };
  const auto window = [&](std::int64_t begin, std::int64_t end) {
    std::set<std::int64_t> images;
    for (std::int64_t p = begin; p < end; ++p) images.insert(sampler(0, p));
    return images;
  };
  EXPECT_EQ(read_ahead(20, 25), window(20, 30));
  EXPECT_EQ(read_ahead(21, 30), std::set<std::int64_t>{});
  EXPECT_EQ(read_ahead(85, 120), window(90, 95));
  EXPECT_EQ(read_ahead(-50, 1), window(0, 10));
  std::set<std::int64_t> whole = read_ahead(0, 95);
  EXPECT_EQ(whole.size(), 95U);
}

// Groups of four of one identity; every identity once, then again, then again; all images of an
// identity before one comes twice. Identities with one image never come.
TEST(Sampler, IdentitiesComeInGroups) {
  const std::vector<int> sizes = {1, 8, 2, 5, 1, 16, 4};
  const FakeSet set(sizes);
  const Sampler sampler(set, Options(Sampling::kIdentities));
  constexpr std::int64_t kWithTwo = 5;
  std::map<std::int64_t, std::vector<std::int64_t>> images_of;
  std::vector<std::int64_t> round;
  for (std::int64_t group = 0; group < 9; ++group) {
    const std::int64_t identity = set.identity(sampler(0, group * 4));
    for (std::int64_t p = group * 4; p < group * 4 + 4; ++p) {
      EXPECT_EQ(set.identity(sampler(0, p)), identity);
      images_of[identity].push_back(sampler(0, p));
    }
    round.push_back(identity);
    if (group == kWithTwo - 1) {
      EXPECT_THAT(round, testing::UnorderedElementsAre(1, 2, 3, 5, 6));
    }
  }
  for (const auto& [identity, images] : images_of) {
    const auto size = static_cast<std::size_t>(sizes[static_cast<std::size_t>(identity)]);
    const std::size_t first = std::min(size, images.size());
    EXPECT_EQ(
        std::set<std::int64_t>(images.begin(), images.begin() + static_cast<std::ptrdiff_t>(first))
            .size(),
        first);
  }
}

TEST(Sampler, TwoIdentitiesWithTwoImagesAreNeeded) {
  EXPECT_THROW(Sampler(FakeSet({5, 1, 1}), Options(Sampling::kIdentities)), Error);
}

TEST(GroupByIdentity, ListsTheImagesOfEach) {
  const IdentityImages grouped = GroupByIdentity({2, 0, 2, 3, 0, 2}, 5);
  EXPECT_THAT(grouped.begin, testing::ElementsAre(0, 2, 2, 5, 6, 6));
  EXPECT_THAT(grouped.images, testing::ElementsAre(1, 4, 0, 2, 5, 3));
  EXPECT_EQ(grouped.num_identities(), 5);
  EXPECT_EQ(grouped.count(2), 3);
}

}  // namespace
}  // namespace fr
