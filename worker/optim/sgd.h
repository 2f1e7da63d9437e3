#pragma once
// SGD with momentum over flat buffers: g' = g clip + decay w; v = momentum v + g'; w -= lr v
// (PyTorch's torch.optim.SGD without dampening and Nesterov).

#include <torch/torch.h>

namespace fr {

struct SgdOptions {
  double momentum = 0.9;
  double weight_decay = 5e-4;
  double clip_norm =
      0;  // 0: no clipping; else gradients are scaled by min(1, clip_norm / (norm + 1e-6)) first
};

class Sgd {
 public:
  // `size` elements; momentum starts at zero.
  Sgd(const SgdOptions& options, std::int64_t size);

  // Updates `values` [size] float32 from `gradients` [size] float32 in one pass and sets the
  // gradients to zero. Returns the gradients' norm before clipping. A norm that is not finite
  // throws Error(kDataLoss) and changes nothing.
  double Step(at::Tensor& values, at::Tensor& gradients, double lr);

  at::Tensor& momentum() { return momentum_; }  // [size] float32

 private:
  SgdOptions options_;
  at::Tensor momentum_;
};

}  // namespace fr
