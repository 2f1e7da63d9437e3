#pragma once
// GPUs that this process may compute on. In builds without FR_CUDA there are none.

#include <memory>

#include "worker/gpu/gpu.h"

namespace fr {

struct NcclApi;

// Whether this program can compute on GPUs at all.
bool HasGpuSupport();

// GPUs that this process may use (CUDA_VISIBLE_DEVICES); 0 where there is no driver.
int CountGpus();

// The `index`-th of them, from 0, for the rest of the process: LibTorch's operators of the calling
// thread run on a stream of it, convolutions in float32 are computed in float32 (not TF32), and
// with `deterministic` by algorithms that give the same bits every time. Throws
// Error(kFailedPrecondition) for a GPU older than compute capability 8.0, Error(kUnavailable) for
// one that does not answer.
std::unique_ptr<Gpu> OpenGpu(int index, bool deterministic);

// What says the same of the same GPU in every process of its host, and something else of others:
// its UUID. Of one that OpenGpu opened.
std::string GpuIdentity(int index);

// NCCL itself; null in builds without FR_CUDA.
const NcclApi* NcclOrNull();

}  // namespace fr
