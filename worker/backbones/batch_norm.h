#pragma once
// Batch normalisation (Ioffe and Szegedy, arXiv:1502.03167) whose training statistics come from
// this rank's images or from those of all ranks.

#include <torch/torch.h>

namespace fr {

class Communicator;

// x [n, c, h, w] or [n, c] float32 -> the same shape. Parameters weight, bias [c] and buffers
// running_mean, running_var [c], num_batches_tracked, as torch.nn.BatchNorm2d; eps 1e-5, momentum
// 0.1.
class BatchNorm : public torch::nn::Module {
 public:
  // With `comm` (not owned, may be null), training statistics are those of the whole global batch:
  // forward and backward are then collective, and n may be 0 on some ranks. `fixed_weight`: the
  // weight stays 1 (InsightFace's last layer).
  BatchNorm(std::int64_t channels, Communicator* comm, bool fixed_weight = false);

  torch::Tensor forward(const torch::Tensor& x);

 private:
  Communicator* comm_;
  torch::Tensor weight_;
  torch::Tensor bias_;
  torch::Tensor running_mean_;
  torch::Tensor running_var_;
  torch::Tensor num_batches_tracked_;
};

}  // namespace fr
