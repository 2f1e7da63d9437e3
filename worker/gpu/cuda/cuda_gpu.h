#pragma once
// A GPU of NVIDIA's, through LibTorch's allocator and streams.

#include <memory>

#include <ATen/cuda/CUDAGraph.h>

#include "worker/gpu/gpu.h"

namespace fr {

class CudaGpu final : public Gpu {
 public:
  // OpenGpu (open_gpu.h).
  CudaGpu(int index, bool deterministic);

  const std::string& name() const override { return name_; }
  at::Device device() const override;
  const GpuKernels& kernels() const override;
  int multiprocessors() const override { return multiprocessors_; }

  GpuStream stream() const override;
  GpuStream NewStream(bool urgent) override;
  void OnStream(GpuStream stream, const std::function<void()>& work) override;
  std::unique_ptr<GpuEvent> NewEvent() override;
  void Synchronize() override;

  at::Tensor NewPinned(at::IntArrayRef sizes, at::ScalarType type) override;
  void KeepFor(const at::Tensor& tensor, GpuStream stream) override;
  std::unique_ptr<GpuGraph> Record(const std::function<void()>& work) override;
  GpuMemory memory() const override;
  void ReleaseUnused() override;
  void ResetPeak() override;

 private:
  int index_;
  std::string name_;
  int multiprocessors_ = 0;
  at::cuda::MempoolId_t graph_pool_;  // graphs of one step share their memory
};

}  // namespace fr
