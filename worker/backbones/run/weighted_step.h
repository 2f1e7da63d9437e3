#pragma once
// What convolutions and linear layers share in training.

#include <memory>
#include <vector>

#include <torch/torch.h>

#include "worker/backbones/run/tape.h"

namespace fr {

// A step of one node with a weight and perhaps a bias, which keeps its input for the backward pass.
class WeightedStep : public Step {
 public:
  WeightedStep(const Graph& graph, int node, const NetworkState& state)
      : Step(graph.node(node).inputs, node, graph.node(node).block),
        parameters_(state.Of(graph.node(node))) {}

  void Forget() override {
    x_.reset();
    weight_.reset();
  }

 protected:
  // Float32, with its gradient; shapes are LibTorch's.
  const at::Tensor& parameter() const { return parameters_[0]; }
  bool has_bias() const { return parameters_.size() > 1; }

  // In the type of x_; the weight is converted once for both passes.
  const at::Tensor& Weight() {
    if (!weight_.defined()) weight_ = parameter().detach().to(x_.scalar_type());
    return weight_;
  }
  c10::optional<at::Tensor> Bias() const {
    if (!has_bias()) return c10::nullopt;
    return parameters_[1].detach().to(x_.scalar_type());
  }

  void AddWeightGradient(const at::Tensor& gradient) {
    parameters_[0].mutable_grad().add_(gradient);
  }
  void AddBiasGradient(const at::Tensor& gradient) { parameters_[1].mutable_grad().add_(gradient); }

  // Of a product y = x w^T: rows dy [n, out] and x [n, in], the weight seen as [out, in]. Float32
  // is summed where it ends up.
  void AddProductGradient(const at::Tensor& dy, const at::Tensor& x) {
    at::Tensor gradient = parameters_[0].mutable_grad().view({dy.size(1), x.size(1)});
    if (x.scalar_type() == torch::kFloat32) {
      gradient.addmm_(dy.t(), x);
    } else {
      gradient.add_(at::mm(dy.t(), x));
    }
  }

  at::Tensor x_;

 private:
  std::vector<at::Tensor> parameters_;
  at::Tensor weight_;
};

}  // namespace fr
