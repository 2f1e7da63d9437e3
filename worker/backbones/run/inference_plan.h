#pragma once
// A network as it is used after training: batch norms folded into the convolutions and linear
// layers beside them, weights laid out once for the processor, activations in the pass that adds
// the bias.

#include <cstdint>
#include <functional>
#include <vector>

#include <torch/torch.h>

#include "common/networks/graph.h"
#include "worker/backbones/run/network_state.h"

namespace fr {

struct InferenceOptions {
  at::ScalarType precision = at::kFloat;  // of products and activations; or bfloat16
  std::int64_t batch = 1;                 // what weights are laid out for; any other works, too
};

class InferencePlan {
 public:
  // Copies what it needs of `state`, as it is now: later changes do not show. `graph` outlives the
  // plan.
  InferencePlan(const Graph& graph, const NetworkState& state, const InferenceOptions& options);

  // images [n, 3, h, w] float32, n >= 1 -> embeddings [n, d] float32, not normalised, both where
  // the state is. Not for two threads at a time.
  at::Tensor Run(const at::Tensor& images);

 private:
  friend class InferenceBuilder;
  using Compute = std::function<void(std::vector<at::Tensor>& values)>;
  struct Step {
    std::vector<int> inputs;
    Compute compute;  // reads and writes values by node index
  };

  at::ScalarType precision_;
  int output_ = 0;
  std::vector<Step> steps_;
  std::vector<int> uses_;
  std::vector<at::Tensor> values_;
};

}  // namespace fr
