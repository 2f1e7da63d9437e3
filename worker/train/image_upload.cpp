#include "worker/train/image_upload.h"

#include <cstring>

#include "worker/train/network_input.h"

namespace fr {

ImageUpload::ImageUpload(Gpu& gpu) : gpu_(gpu), stream_(gpu.NewStream(/*urgent=*/true)) {
  for (Slot& slot : slots_) {
    slot.copied = gpu.NewEvent();
    slot.used = gpu.NewEvent();
  }
}

void ImageUpload::Start(const Batch& batch) {
  Slot& slot = slots_[started_++ % slots_.size()];
  const std::vector<std::int64_t> sizes = {static_cast<std::int64_t>(batch.labels.size()),
                                           batch.height, batch.width, 3};
  // The last copy out of this memory may still be under way.
  slot.copied->Wait();
  if (!slot.pinned.defined() || slot.pinned.sizes() != at::IntArrayRef(sizes)) {
    slot.used->Wait();
    slot.pinned = gpu_.NewPinned(sizes, at::kByte);
    slot.pixels = at::empty(sizes, at::TensorOptions(gpu_.device()).dtype(at::kByte));
    // Its memory may be another tensor's, in the order of the current stream, until now.
    slot.used->Record(gpu_.stream());
  }
  std::memcpy(slot.pinned.mutable_data_ptr(), batch.images.data(), batch.images.size());
  slot.used->HoldBack(stream_);
  gpu_.OnStream(stream_, [&] { slot.pixels.copy_(slot.pinned, /*non_blocking=*/true); });
  slot.copied->Record(stream_);
}

at::Tensor ImageUpload::Take() {
  Slot& slot = slots_[taken_++ % slots_.size()];
  slot.copied->HoldBack(gpu_.stream());
  at::Tensor images = NetworkInput(slot.pixels, {}, &gpu_);
  slot.used->Record(gpu_.stream());
  return images;
}

}  // namespace fr
