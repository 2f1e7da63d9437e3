#include "common/networks/fused_norms.h"

#include <vector>

namespace fr {
namespace {

std::optional<int> OnlyUser(const Graph& graph, const std::vector<int>& uses, int node) {
  if (uses[static_cast<std::size_t>(node)] != 1) return std::nullopt;
  for (int i = node + 1; i <= graph.output(); ++i) {
    for (const int input : graph.node(i).inputs) {
      if (input == node) return i;
    }
  }
  return std::nullopt;
}

bool IsActivation(Op op) { return op == Op::kPRelu || op == Op::kRelu || op == Op::kRelu6; }

// The batch norm `norm` with the activation or the sum that alone uses it; a sum that another one,
// of `earlier`, has is left to that.
NormNodes Fuse(const Graph& graph, const std::vector<int>& uses, int norm,
               const std::map<int, NormNodes>& earlier) {
  NormNodes nodes{norm, {}, {}, norm};
  const std::optional<int> user = OnlyUser(graph, uses, norm);
  if (!user || graph.node(*user).block != graph.node(norm).block) return nodes;
  const Node& next = graph.node(*user);
  if (IsActivation(next.op)) {
    nodes.activation = *user;
    nodes.output = *user;
  } else if (next.op == Op::kAdd && next.factor == 1 && next.inputs[0] != next.inputs[1] &&
             !earlier.contains(*user)) {
    nodes.residual = next.inputs[0] == norm ? next.inputs[1] : next.inputs[0];
    nodes.output = *user;
  }
  return nodes;
}

}  // namespace

std::map<int, NormNodes> FuseNorms(const Graph& graph) {
  const std::vector<int> uses = graph.UseCounts();
  std::map<int, NormNodes> norms;
  for (int i = 0; i <= graph.output(); ++i) {
    if (graph.node(i).op != Op::kBatchNorm) continue;
    const NormNodes nodes = Fuse(graph, uses, i, norms);
    norms[nodes.output] = nodes;
  }
  return norms;
}

}  // namespace fr
