#pragma once
// From what the loader gives to what the network and the head take.

#include <torch/torch.h>

#include "common/networks/preprocessing.h"
#include "worker/data/loader.h"

namespace fr {

class Gpu;

// [n, 3, height, width] float32, channels-last, on ComputeDevice().
torch::Tensor NetworkInput(const Batch& batch, const Preprocessing& preprocessing = {});

// The same of pixels [n, height, width, 3] uint8 that lie on `gpu` already, or, where it is null,
// on the processor.
torch::Tensor NetworkInput(const torch::Tensor& pixels, const Preprocessing& preprocessing,
                           const Gpu* gpu);

// [n] int64, on the processor.
torch::Tensor LabelTensor(const Batch& batch);

}  // namespace fr
