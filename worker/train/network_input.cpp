#include "worker/train/network_input.h"

#include "worker/gpu/gpu.h"

namespace fr {

torch::Tensor NetworkInput(const Batch& batch, const Preprocessing& preprocessing) {
  const std::int64_t count = static_cast<std::int64_t>(batch.labels.size());
  // Pixels lie as [n, height, width, 3]: seen as [n, 3, height, width] that is channels-last.
  const torch::Tensor pixels =
      torch::from_blob(const_cast<std::uint8_t*>(batch.images.data()),
                       {count, batch.height, batch.width, 3}, torch::kUInt8)
          .permute({0, 3, 1, 2});
  // Bytes travel to a GPU faster than numbers.
  return pixels.to(ComputeDevice())
      .to(torch::kFloat32)
      .sub_(preprocessing.mean)
      .div_(preprocessing.std);
}

torch::Tensor LabelTensor(const Batch& batch) { return torch::tensor(batch.labels, torch::kInt64); }

}  // namespace fr
