#pragma once
// Decoded, augmented batches in the order of training, made ahead of time by threads of its own.

#include <cstdint>
#include <memory>
#include <vector>

#include "worker/data/training_set.h"

namespace fr {

struct LoaderOptions {
  std::uint64_t seed = 1;
  std::int64_t total_batch = 0;  // images of all ranks per step
  // The part of every global batch that this rank trains on: [slice_begin, slice_end).
  std::int64_t slice_begin = 0;
  std::int64_t slice_end = 0;
  int threads = 1;
  bool flip = true;  // mirror half of the images, at random
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
  // within it.
  Loader(const TrainingSet& set, const LoaderOptions& options);
  // Ends the threads; batches that nobody took are lost.
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // This rank's part of the next global batch; one epoch follows the other without end, each
  // without its last images where they make no full batch. Throws Error(kDataLoss) that names the
  // image when one cannot be decoded. Only one thread may call.
  Batch Next();

  // Time spent in Next() so far.
  std::int64_t waited_ms() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fr
