#pragma once
// Decoded, augmented batches in the order of training, made ahead of time by threads of its own.

#include <cstdint>
#include <memory>
#include <vector>

#include "worker/data/images/augment.h"
#include "worker/data/sampler.h"
#include "worker/data/training_set.h"

namespace fr {

struct LoaderOptions {
  SamplerOptions sampler;  // its seed is that of the augmentation, too
  AugmentOptions augment;
  std::int64_t total_batch = 0;  // images of all ranks in a batch
  // So many batches make a step: an epoch ends when it has no images for a whole step.
  std::int64_t batches_per_step = 1;
  // The part of every global batch that this rank trains on: [slice_begin, slice_end).
  std::int64_t slice_begin = 0;
  std::int64_t slice_end = 0;
  int threads = 1;
  // Images that cannot be read or decoded: each is logged, and the next one of the set takes its
  // place. One more than this ends the loader.
  std::int64_t max_bad_records = 0;
  // Where to begin: `start_samples` of epoch `start_epoch` are done already.
  std::int64_t start_epoch = 0;
  std::int64_t start_samples = 0;
};

struct Batch {
  int height = 0;
  int width = 0;
  std::vector<std::uint8_t> images;  // [n, height, width, 3], RGB
  std::vector<std::int64_t> labels;  // [n]
};

class Loader {
 public:
  // `set` must outlive the loader. REQUIRES: 0 < total_batch <= set.num_images(), and a slice
  // within it. Throws what Sampler throws.
  Loader(const TrainingSet& set, const LoaderOptions& options);
  // Ends the threads; batches that nobody took are lost.
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // Fills `batch` with this rank's part of the next global batch; one epoch follows the other
  // without end, each without its last images where they make no full batch. The memory of `batch`
  // is used again: with the same one every time, nothing is allocated. Throws Error(kDataLoss) that
  // says where the image lies when one more than max_bad_records cannot be decoded; again at every
  // further call. Only one thread may call.
  void Next(Batch* batch);

  // Time spent in Next() so far.
  std::int64_t waited_ms() const;
  // Images so far whose place another took. Of those that were loaded ahead, too.
  std::int64_t bad_records() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fr
