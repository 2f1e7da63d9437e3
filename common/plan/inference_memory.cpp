#include <algorithm>
#include <vector>

#include "common/plan/heap_model.h"
#include "common/plan/training_memory.h"
#include "common/plan/value_sizes.h"

namespace fr {
namespace {

bool IsWeighted(Op op) { return op == Op::kConv || op == Op::kLinear; }

// Computed in place, or in the product before, as InferencePlan does where its input is not wanted
// again.
bool FoldsIntoInput(Op op) {
  switch (op) {
    case Op::kBatchNorm:
    case Op::kPRelu:
    case Op::kRelu:
    case Op::kRelu6:
    case Op::kAdd:
      return true;
    default:
      return false;
  }
}

// Gives its input on as it is.
bool IsView(Op op) {
  switch (op) {
    case Op::kSlice:
    case Op::kTokens:
    case Op::kDropout:
    case Op::kDropPath:
    case Op::kHideTokens:
    case Op::kRestoreTokens:
      return true;
    default:
      return false;
  }
}

}  // namespace

std::int64_t InferenceMemoryOf(const Graph& graph, std::int64_t images, Precision precision) {
  HeapModel heap;
  return InferenceMemoryOf(graph, images, precision, heap);
}

std::int64_t InferenceMemoryOf(const Graph& graph, std::int64_t images, Precision precision,
                               MemoryModel& model) {
  const ValueSizes sizes = ValueSizesOf(graph, images, precision, /*hides_tokens=*/false);
  std::int64_t weights = 0;
  std::vector<int> uses = graph.UseCounts();
  std::vector<BufferPtr> values(graph.nodes().size());
  for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
    const Node& node = graph.nodes()[i];
    if (IsWeighted(node.op)) weights += node.weight().numel() * sizes.element_size[i];
    std::vector<BufferPtr> inputs;
    bool last_use = true;
    for (const int input : node.inputs) {
      const auto at = static_cast<std::size_t>(input);
      inputs.push_back(values[at]);
      if (--uses[at] == 0) values[at].reset();
      if (inputs.size() == 1) last_use = uses[at] == 0;
    }
    values[i] = IsView(node.op) || (FoldsIntoInput(node.op) && last_use)
                    ? inputs[0]
                    : model.New(sizes.bytes[i]);
  }
  return weights + model.peak_resident();
}

}  // namespace fr
