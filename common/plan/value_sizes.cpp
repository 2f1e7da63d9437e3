#include "common/plan/value_sizes.h"

#include <functional>
#include <numeric>

namespace fr {
namespace {

std::int64_t Product(const std::vector<std::int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

}  // namespace

ValueSizes ValueSizesOf(const Graph& graph, std::int64_t images, Precision precision,
                        bool hides_tokens) {
  ValueSizes sizes;
  std::vector<std::int64_t> tokens;  // of values with fewer than their shape says; else 0
  for (const Node& node : graph.nodes()) {
    const int first = node.inputs.empty() ? -1 : node.inputs[0];
    std::int64_t element = precision == Precision::bf16 ? 2 : 4;
    if (first >= 0) element = sizes.element_size[static_cast<std::size_t>(first)];
    if (node.op == Op::kFlatten) element = 4;
    std::int64_t own_tokens = first >= 0 ? tokens[static_cast<std::size_t>(first)] : 0;
    if (node.op == Op::kHideTokens && hides_tokens && node.probability > 0) {
      own_tokens =
          static_cast<std::int64_t>(static_cast<double>(node.shape[0]) * (1 - node.probability));
    }
    if (node.op == Op::kRestoreTokens) own_tokens = 0;
    std::int64_t values = Product(node.shape);
    if (own_tokens > 0) values = values / node.shape[0] * own_tokens;
    tokens.push_back(own_tokens);
    sizes.element_size.push_back(element);
    sizes.bytes.push_back(images * values * element);
  }
  return sizes;
}

}  // namespace fr
