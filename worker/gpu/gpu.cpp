#include "worker/gpu/gpu.h"

namespace fr {
namespace {

Gpu*& Instance() {
  static Gpu* instance = nullptr;
  return instance;
}

}  // namespace

Gpu* ProcessGpu() { return Instance(); }

void UseGpu(Gpu* gpu) { Instance() = gpu; }

Gpu* GpuOf(const at::Tensor& tensor) {
  Gpu* gpu = Instance();
  return gpu != nullptr && tensor.device() == gpu->device() ? gpu : nullptr;
}

at::Device ComputeDevice() {
  const Gpu* gpu = Instance();
  return gpu == nullptr ? at::Device(at::kCPU) : gpu->device();
}

}  // namespace fr
