#pragma once
// Which image of a training set comes when: a function of seed, epoch and position alone, not of
// ranks or threads. So a run continues with the images it would have seen, on any number of ranks.

#include <cstdint>
#include <optional>
#include <vector>

#include "worker/data/storage_order.h"
#include "worker/data/training_set.h"

namespace fr {

enum class Sampling {
  kShuffled,    // an epoch is a random order of all images
  kWindows,     // the same, but near in time is near on the disk: see SamplerOptions::window
  kIdentities,  // groups of images of one identity, for losses that compare images
};

struct SamplerOptions {
  Sampling sampling = Sampling::kShuffled;
  std::uint64_t seed = 1;

  // kWindows: the set as it lies on the disk, begun anywhere and cut into windows of so many
  // images; windows come in random order, and so do the images within one. Disks that are slow at
  // jumping (spinning, or object stores) read a window in one go. A set whose neighbours are of one
  // identity is shuffled with `fr-data shuffle` first.
  std::int64_t window = 16'384;

  // kIdentities: so many images of one identity follow each other, of those with at least two. Each
  // of these identities comes once before any comes again, and so do the images of an identity. One
  // that has fewer gives some of them twice.
  std::int64_t images_per_identity = 4;
};

// Thread-safe.
class Sampler {
 public:
  // Looks at every image's place for kWindows, at the identities for kIdentities. `set` must
  // outlive the sampler. Throws Error(kInvalidArgument) if no two identities have two images, and
  // what the set throws.
  Sampler(const TrainingSet& set, const SamplerOptions& options);

  // Positions of an epoch: as many as the set has images.
  std::int64_t epoch_size() const { return count_; }

  // The image at `position` of [0, epoch_size()).
  std::int64_t operator()(std::int64_t epoch, std::int64_t position) const;

  // Asks the system to read what comes at positions [begin, end) of the epoch into memory; only
  // kWindows does. Either may lie beyond the epoch.
  void Prefetch(std::int64_t epoch, std::int64_t begin, std::int64_t end) const;

 private:
  // A window by its place in the epoch.
  struct Window {
    std::int64_t first = 0;  // in storage order, after the epoch's origin
    std::int64_t size = 0;
    std::uint64_t key = 0;
  };
  std::int64_t InWindows(std::int64_t epoch, std::int64_t position) const;
  std::int64_t OfIdentities(std::int64_t epoch, std::int64_t position) const;
  Window WindowAt(std::int64_t epoch, std::int64_t slot) const;
  std::int64_t Origin(std::int64_t epoch) const;

  const TrainingSet& set_;
  SamplerOptions options_;
  std::int64_t count_;
  std::optional<StorageOrder> storage_order_;   // kWindows
  IdentityImages identities_;                   // kIdentities
  std::vector<std::uint32_t> with_two_images_;  // of these
};

}  // namespace fr
