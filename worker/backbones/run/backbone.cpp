#include "worker/backbones/run/backbone.h"

namespace fr {

Backbone::Backbone(const NetworkOptions& network, const TrainingOptions& training,
                   std::uint64_t seed)
    : graph_(MakeNetwork(network)), state_(graph_), plan_(graph_, state_, training) {
  state_.Initialise(graph_, seed);
  Gpu* gpu = ProcessGpu();
  if (gpu != nullptr && training.graph_elements > 0) {
    recorded_.emplace(plan_, state_, *gpu, training.graph_elements);
  }
}

}  // namespace fr
