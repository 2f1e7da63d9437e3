#include "worker/train/network_input.h"

#include "worker/gpu/gpu.h"
#include "worker/gpu/gpu_kernels.h"

namespace fr {

torch::Tensor NetworkInput(const Batch& batch, const Preprocessing& preprocessing) {
  const std::int64_t count = static_cast<std::int64_t>(batch.labels.size());
  const torch::Tensor pixels =
      torch::from_blob(const_cast<std::uint8_t*>(batch.images.data()),
                       {count, batch.height, batch.width, 3}, torch::kUInt8);
  // Bytes travel to a GPU faster than numbers.
  return NetworkInput(pixels.to(ComputeDevice()), preprocessing, ProcessGpu());
}

torch::Tensor NetworkInput(const torch::Tensor& pixels, const Preprocessing& preprocessing,
                           const Gpu* gpu) {
  // Pixels lie as [n, height, width, 3]: seen as [n, 3, height, width] that is channels-last.
  if (gpu == nullptr) {
    return pixels.permute({0, 3, 1, 2})
        .to(torch::kFloat32)
        .sub_(preprocessing.mean)
        .div_(preprocessing.std);
  }
  at::Tensor numbers = at::empty(pixels.sizes(), pixels.options().dtype(at::kFloat));
  GpuPixels work;
  work.pixels = pixels.const_data_ptr<std::uint8_t>();
  work.size = pixels.numel();
  work.mean = static_cast<float>(preprocessing.mean);
  work.std = static_cast<float>(preprocessing.std);
  work.out = numbers.mutable_data_ptr();
  gpu->kernels().pixels(work, gpu->stream());
  return numbers.permute({0, 3, 1, 2});
}

torch::Tensor LabelTensor(const Batch& batch) { return torch::tensor(batch.labels, torch::kInt64); }

}  // namespace fr
