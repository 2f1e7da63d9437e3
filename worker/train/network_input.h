#pragma once
// From what the loader gives to what the network and the head take.

#include <torch/torch.h>

#include "common/networks/preprocessing.h"
#include "worker/data/loader.h"

namespace fr {

// [n, 3, height, width] float32, channels-last.
torch::Tensor NetworkInput(const Batch& batch, const Preprocessing& preprocessing = {});

// [n] int64.
torch::Tensor LabelTensor(const Batch& batch);

}  // namespace fr
