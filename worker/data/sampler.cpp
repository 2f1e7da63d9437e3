#include "worker/data/sampler.h"

#include <algorithm>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/random.h"
#include "worker/data/sample_order.h"

namespace fr {
namespace {

// Streams of random numbers that one seed gives, beside that of the epochs' orders.
constexpr std::uint64_t kWindowStream = 1;
constexpr std::uint64_t kOriginStream = 2;
constexpr std::uint64_t kIdentityStream = 3;

}  // namespace

Sampler::Sampler(const TrainingSet& set, const SamplerOptions& options)
    : set_(set), options_(options), count_(set.num_images()) {
  options_.window = std::min(options_.window, count_);
  if (options_.sampling == Sampling::kWindows) storage_order_.emplace(set);
  if (options_.sampling != Sampling::kIdentities) return;
  identities_ = set.ImagesByIdentity();
  for (std::int64_t i = 0; i < identities_.num_identities(); ++i) {
    if (identities_.count(i) >= 2) with_two_images_.push_back(static_cast<std::uint32_t>(i));
  }
  if (with_two_images_.size() < 2) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: {} of its identities have two images or more, and two such are "
                            "the least for groups of one identity's images",
                            set.path().string(), with_two_images_.size()));
  }
}

std::int64_t Sampler::operator()(std::int64_t epoch, std::int64_t position) const {
  switch (options_.sampling) {
    case Sampling::kWindows:
      return InWindows(epoch, position);
    case Sampling::kIdentities:
      return OfIdentities(epoch, position);
    case Sampling::kShuffled:
      break;
  }
  return SampleOrder(options_.seed, epoch, count_)[position];
}

// Where the first window begins: elsewhere in every epoch, so that windows differ, too.
std::int64_t Sampler::Origin(std::int64_t epoch) const {
  Random random(MixKeys(options_.seed, static_cast<std::uint64_t>(epoch), kOriginStream));
  return random.Below(count_);
}

// What is left over after whole windows is the last one.
Sampler::Window Sampler::WindowAt(std::int64_t epoch, std::int64_t slot) const {
  const std::uint64_t key = MixKeys(options_.seed, kWindowStream);
  const std::int64_t whole = count_ / options_.window;
  const std::int64_t window = slot < whole ? SampleOrder(key, epoch, whole)[slot] : whole;
  const std::int64_t first = window * options_.window;
  return {first, std::min(options_.window, count_ - first),
          MixKeys(key, static_cast<std::uint64_t>(window))};
}

std::int64_t Sampler::InWindows(std::int64_t epoch, std::int64_t position) const {
  const Window window = WindowAt(epoch, position / options_.window);
  const SampleOrder order(window.key, epoch, window.size);
  return (
      *storage_order_)[(Origin(epoch) + window.first + order[position % options_.window]) % count_];
}

std::int64_t Sampler::OfIdentities(std::int64_t epoch, std::int64_t position) const {
  const std::int64_t group = position / options_.images_per_identity;
  const std::int64_t in_group = position % options_.images_per_identity;
  const auto num_identities = static_cast<std::int64_t>(with_two_images_.size());
  const std::int64_t round = group / num_identities;
  const SampleOrder identity_order(
      MixKeys(options_.seed, static_cast<std::uint64_t>(round), kIdentityStream), epoch,
      num_identities);
  const std::int64_t identity =
      with_two_images_[static_cast<std::size_t>(identity_order[group % num_identities])];
  // Over the rounds of an epoch its images follow each other in one random order.
  const std::int64_t count = identities_.count(identity);
  const SampleOrder image_order(
      MixKeys(options_.seed, static_cast<std::uint64_t>(identity), kIdentityStream + 1), epoch,
      count);
  const std::int64_t image = image_order[(round * options_.images_per_identity + in_group) % count];
  return identities_.images[static_cast<std::size_t>(
      identities_.begin[static_cast<std::size_t>(identity)] + image)];
}

void Sampler::Prefetch(std::int64_t epoch, std::int64_t begin, std::int64_t end) const {
  if (options_.sampling != Sampling::kWindows) return;
  const StorageOrder& order = *storage_order_;
  const std::int64_t window_count = (count_ + options_.window - 1) / options_.window;
  begin = std::max<std::int64_t>(begin, 0);
  // Windows that begin in [begin, end).
  const std::int64_t last = std::min((end + options_.window - 1) / options_.window, window_count);
  for (std::int64_t slot = (begin + options_.window - 1) / options_.window; slot < last; ++slot) {
    const Window window = WindowAt(epoch, slot);
    const std::int64_t first = (Origin(epoch) + window.first) % count_;
    const std::int64_t until_end = std::min(window.size, count_ - first);
    set_.Prefetch(order[first], order[first + until_end - 1]);
    if (until_end < window.size) set_.Prefetch(order[0], order[window.size - until_end - 1]);
  }
}

}  // namespace fr
