#pragma once
// Which nodes a training step computes together with a batch norm. The engine runs what is said
// here, the planner predicts its memory.

#include <map>
#include <optional>

#include "common/networks/graph.h"

namespace fr {

// A batch norm, and what was fused with it: y = act(bn(x)) or y = bn(x) + residual.
struct NormNodes {
  int norm = 0;
  std::optional<int> activation;  // a kPRelu, kRelu or kRelu6 node
  std::optional<int> residual;    // the other input of the kAdd node
  int output = 0;                 // the last of them
};

// Every batch norm of the graph, by NormNodes::output. An activation or a sum is fused where it
// alone reads the norm's value and belongs to the same block of `recompute`.
std::map<int, NormNodes> FuseNorms(const Graph& graph);

}  // namespace fr
