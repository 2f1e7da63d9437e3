#pragma once
// Which of our networks somebody's tensors belong to.

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/networks/graph.h"
#include "proto/job.pb.h"
#include "worker/weights/host_tensor.h"

namespace fr {

// What is known already; the rest is found out.
struct NetworkHints {
  std::optional<Network> network = {};
  std::optional<std::int64_t> embedding_size = {};
  std::optional<ModelSpec::Output> output = {};
  std::optional<bool> squeeze_excite = {};
};

// Every network that `hints` leave open, but for those that differ from an earlier one in dropout
// alone: specs to choose from, a network's own output before the others.
std::vector<ModelSpec> CandidateNetworks(const NetworkHints& hints);

// The network that has exactly these names and shapes; counters (num_batches_tracked) may be
// missing. `what` names the tensors' file. Throws Error(kInvalidArgument) that says which networks
// came closest, and where they differ first.
ModelSpec FindNetworkByTensors(const std::map<std::string, std::vector<std::int64_t>>& shapes,
                               const NetworkHints& hints, const std::string& what);

// Where `shapes` are not those of `graph`, first in graph order: "has no 'bn1.weight'"; then what
// is there beside them. Nothing if they agree.
std::optional<std::string> FirstDifference(
    const Graph& graph, const std::map<std::string, std::vector<std::int64_t>>& shapes);

}  // namespace fr
