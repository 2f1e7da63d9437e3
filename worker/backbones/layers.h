#pragma once
// Small pieces that the networks share.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <torch/torch.h>

namespace fr {

// Modules in a row, under the names "0", "1", ...: a torch.nn.Sequential whose members need not
// be known to LibTorch's own.
class Chain : public torch::nn::Module {
 public:
  template <typename Layer>
  Chain& Add(std::shared_ptr<Layer> layer) {
    register_module(std::to_string(steps_.size()), layer);
    steps_.push_back([layer](const torch::Tensor& x) { return layer->forward(x); });
    return *this;
  }

  torch::Tensor forward(torch::Tensor x) {
    for (const auto& step : steps_) x = step(x);
    return x;
  }

 private:
  std::vector<std::function<torch::Tensor(const torch::Tensor&)>> steps_;
};

// A convolution without bias.
struct ConvShape {
  std::int64_t in = 0;
  std::int64_t out = 0;
  std::int64_t kernel = 1;
  std::int64_t stride = 1;
  std::int64_t padding = 0;
  std::int64_t groups = 1;
};

inline std::shared_ptr<torch::nn::Conv2dImpl> MakeConv(const ConvShape& shape) {
  return std::make_shared<torch::nn::Conv2dImpl>(
      torch::nn::Conv2dOptions(shape.in, shape.out, shape.kernel)
          .stride(shape.stride)
          .padding(shape.padding)
          .groups(shape.groups)
          .bias(false));
}

}  // namespace fr
