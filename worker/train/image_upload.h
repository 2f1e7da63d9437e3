#pragma once
// A rank's images on their way to its GPU, beside what the GPU computes.

#include <array>
#include <memory>

#include <torch/torch.h>

#include "worker/data/loader.h"
#include "worker/gpu/gpu.h"

namespace fr {

// Two batches at a time: one is copied from pinned memory on a stream of its own while the other is
// in use. Pixels travel as bytes and become numbers on the GPU.
class ImageUpload {
 public:
  explicit ImageUpload(Gpu& gpu);

  // Begins to copy the images of `batch`, whose memory is the caller's again at once.
  void Start(const Batch& batch);

  // The images of the oldest batch that was started and not taken: [n, 3, height, width] float32,
  // (x - 127.5) / 127.5, channels-last, in the order of the current stream.
  at::Tensor Take();

 private:
  struct Slot {
    at::Tensor pinned;  // [n, height, width, 3] uint8
    at::Tensor pixels;  // the same on the GPU
    std::unique_ptr<GpuEvent> copied;
    std::unique_ptr<GpuEvent> used;
  };

  Gpu& gpu_;
  GpuStream stream_;
  std::array<Slot, 2> slots_;
  std::size_t started_ = 0;
  std::size_t taken_ = 0;
};

}  // namespace fr
