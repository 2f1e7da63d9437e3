#include "common/networks/costs.h"

#include <functional>
#include <numeric>

namespace fr {
namespace {

std::int64_t Product(const std::vector<std::int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

std::int64_t MultiplyAdds(const Node& node) {
  switch (node.op) {
    case Op::kConv:
    case Op::kLinear:
      // As many for each value of the result as a row of the weight has.
      return Product(node.shape) * (node.weight().numel() / node.weight().shape.front());
    case Op::kAttention:
      // Queries with keys, [t, d] by [d, t], and their weights with values, [t, t] by [t, d].
      return 2 * node.shape[0] * node.shape[0] * node.shape[1];
    default:
      return 0;
  }
}

bool IsView(Op op) { return op == Op::kFlatten || op == Op::kSlice || op == Op::kTokens; }

}  // namespace

Costs CostsOf(const Graph& graph) {
  Costs costs;
  for (const Node& node : graph.nodes()) {
    Costs::OfNode own;
    for (const Parameter& parameter : node.parameters) {
      using Role = Parameter::Role;
      if (parameter.role == Role::kTrained) costs.trained_parameters += parameter.numel();
      if (parameter.role == Role::kTrained || parameter.role == Role::kFixed) {
        own.parameters += parameter.numel();
      }
    }
    own.multiply_adds = MultiplyAdds(node);
    own.activations = IsView(node.op) ? 0 : Product(node.shape);
    costs.parameters += own.parameters;
    costs.multiply_adds += own.multiply_adds;
    costs.activations += own.activations;
    costs.nodes.push_back(own);
  }
  return costs;
}

}  // namespace fr
