#pragma once
// The kernels as nvcc compiled them, for sources that it did not.

#include "worker/gpu/gpu_kernels.h"

namespace fr::native_gpu {

extern const GpuKernels kKernels;

}  // namespace fr::native_gpu
