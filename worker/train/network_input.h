#pragma once
// From what the loader gives to what the network and the head take.

#include <torch/torch.h>

#include "worker/data/loader.h"

namespace fr {

// [n, 3, height, width] float32, channels-last, (x - 127.5) / 127.5.
torch::Tensor NetworkInput(const Batch& batch);

// [n] int64.
torch::Tensor LabelTensor(const Batch& batch);

}  // namespace fr
