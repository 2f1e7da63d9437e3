#pragma once
// PReLU in one pass each way over channels-last memory (He et al., arXiv:1502.01852).

#include <torch/torch.h>

namespace fr {

// y = x where x > 0, else weight[channel] x.
// x [n, c, h, w] or [n, c] float32 CPU in any memory format; y has channels-last format if x is
// 4-d. weight [c] float32. Differentiable in both. LibTorch's own backward writes the weight's
// gradient as a tensor of x's size before it sums it: that one tensor was a quarter of
// MobileFaceNet's training time.
torch::Tensor PRelu(const torch::Tensor& x, const torch::Tensor& weight);

// The layer, as torch.nn.PReLU(num_parameters=channels): a parameter `weight` that starts at 0.25.
class PReluLayer : public torch::nn::Module {
 public:
  explicit PReluLayer(std::int64_t channels);
  torch::Tensor forward(const torch::Tensor& x) { return PRelu(x, weight_); }

 private:
  torch::Tensor weight_;
};

}  // namespace fr
