#pragma once
// The network of a training run: its graph, its tensors, and its forward and backward pass.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <torch/torch.h>

#include "common/networks/graph.h"
#include "common/networks/network.h"
#include "worker/backbones/run/network_state.h"
#include "worker/backbones/run/recorded_passes.h"
#include "worker/backbones/run/training_plan.h"

namespace fr {

// images [n, 3, 112, 112] float32, (x - 127.5) / 127.5 -> embeddings [n, d] float32, not
// normalised; on ComputeDevice(), as everything else.
class Backbone {
 public:
  // With weights drawn as the network's authors draw them, from `seed`. Throws
  // Error(kInvalidArgument) for options that make no network.
  Backbone(const NetworkOptions& network, const TrainingOptions& training, std::uint64_t seed);

  // See TrainingPlan.
  at::Tensor Forward(const at::Tensor& images, const Draws& draws = {}) {
    return recorded_ ? recorded_->Forward(images, draws) : plan_.Forward(images, draws);
  }
  void Backward(const at::Tensor& embedding_gradients, const GradientsReady& ready = {}) {
    recorded_ ? recorded_->Backward(embedding_gradients, ready)
              : plan_.Backward(embedding_gradients, ready);
  }

  std::optional<std::string> FindNonFinite(const at::Tensor& images,
                                           const at::Tensor& embedding_gradients,
                                           const Draws& draws = {}) {
    return plan_.FindNonFinite(images, embedding_gradients, draws);
  }

  const Graph& graph() const { return graph_; }
  NetworkState& state() { return state_; }
  FlatParameters& parameters() { return state_.trained(); }

 private:
  Graph graph_;
  NetworkState state_;
  TrainingPlan plan_;
  std::optional<RecordedPasses> recorded_;  // on a GPU
};

}  // namespace fr
