#pragma once
// Where an infinite or NaN value appeared first in a pass that looks at every value.

#include <optional>
#include <string>

#include <torch/torch.h>

#include "common/networks/graph.h"
#include "worker/backbones/run/network_state.h"

namespace fr {

// Is shown tensors in the order in which they come to be, and keeps the first that is not finite:
//   "weight NAME"  "input: image N" (of this rank's, from 0)  "forward: NODE"
//   "backward: gradient of NODE"  "backward: gradient of WEIGHT"
class FiniteCheck {
 public:
  // `graph` and `state` outlive it.
  FiniteCheck(const Graph& graph, const NetworkState& state) : graph_(graph), state_(state) {}

  void Weights();
  void Images(const at::Tensor& images);
  void Value(int node, const at::Tensor& value);
  void Gradient(int node, const at::Tensor& gradient);
  void ParameterGradient(const std::string& name);  // nothing where it is not trained

  const std::optional<std::string>& first() const { return first_; }

 private:
  // `tensor` may be undefined: nothing to look at.
  void Look(const at::Tensor& tensor, const std::string& what);

  const Graph& graph_;
  const NetworkState& state_;
  std::optional<std::string> first_;
};

}  // namespace fr
