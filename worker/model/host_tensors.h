#pragma once
// Between LibTorch's tensors and those of files.

#include <torch/torch.h>

#include "worker/weights/host_tensor.h"

namespace fr {

// A copy: int64 as it is, everything else as float32.
at::Tensor ToTensor(const HostTensor& tensor);

// Shares the memory of a contiguous tensor. REQUIRES: float32.
HostTensor ToHostTensor(const at::Tensor& tensor);

}  // namespace fr
