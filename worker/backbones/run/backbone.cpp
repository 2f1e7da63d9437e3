#include "worker/backbones/run/backbone.h"

namespace fr {

Backbone::Backbone(const NetworkOptions& network, const TrainingOptions& training,
                   std::uint64_t seed)
    : graph_(MakeNetwork(network)), state_(graph_), plan_(graph_, state_, training) {
  state_.Initialise(graph_, seed);
}

}  // namespace fr
