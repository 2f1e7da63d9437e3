#pragma once
// A network as PyTorch runs it: the graph node by node in stock operators under autograd, in C++ -
// the same kernels as in Python, without the interpreter.

#include <vector>

#include <ATen/autocast_mode.h>
#include <torch/torch.h>

#include "common/networks/graph.h"
#include "worker/backbones/run/compute_node.h"
#include "worker/backbones/run/network_state.h"

namespace fr {

class EagerNetwork {
 public:
  // kEager: what a PyTorch program does without a thought, float32, [n, c, h, w] as it comes.
  // kChannelsLast: the same in the other layout. kAutocast: channels-last, bfloat16 autocast.
  enum class Kind { kEager, kChannelsLast, kAutocast };

  // With copies of `state`'s tensors, on their device. `graph` must outlive it.
  EagerNetwork(const Graph& graph, const NetworkState& state, Kind kind)
      : graph_(graph), kind_(kind), device_(state.trained().values().device().type()) {
    for (const Node& node : graph.nodes()) {
      tensors_.emplace_back();
      for (const Parameter& parameter : node.parameters) {
        at::Tensor tensor = Lay(state.Get(parameter.name).detach());
        if (parameter.role == Parameter::Role::kTrained) {
          tensor.set_requires_grad(true);
          trained_.push_back(tensor);
        }
        tensors_.back().push_back(tensor);
      }
    }
  }

  at::Tensor Forward(const at::Tensor& images, bool training) {
    const AutocastOn autocast(kind_ == Kind::kAutocast, device_);
    ComputeMode mode;
    mode.training = training;
    return ComputeGraph(graph_, tensors_, Lay(images), mode);
  }

  // Leaves, whose gradients autograd fills.
  const std::vector<at::Tensor>& trained() const { return trained_; }

 private:
  struct AutocastOn {
    AutocastOn(bool on, at::DeviceType device) : on_(on), device_(device) {
      if (!on_) return;
      at::autocast::set_autocast_enabled(device_, true);
      at::autocast::set_autocast_dtype(device_, at::kBFloat16);
    }
    ~AutocastOn() {
      if (!on_) return;
      at::autocast::set_autocast_enabled(device_, false);
      at::autocast::clear_cache();
    }
    bool on_;
    at::DeviceType device_;
  };

  at::Tensor Lay(const at::Tensor& tensor) const {
    const bool last = tensor.dim() == 4 && kind_ != Kind::kEager;
    return tensor.clone(last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
  }

  const Graph& graph_;
  Kind kind_;
  at::DeviceType device_;
  std::vector<std::vector<at::Tensor>> tensors_;  // by node, as Node::parameters
  std::vector<at::Tensor> trained_;
};

}  // namespace fr
