#include "worker/weights/simplify_foreign.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>

#include "common/base/error.h"

namespace fr {
namespace {

// (x - mean) * scale, with one value for all channels or one a channel.
struct PixelMap {
  std::vector<double> mean = {0};
  std::vector<double> scale = {1};
};

// A constant's values if it is one number or, as [..., c, 1, 1], one a channel.
std::optional<std::vector<double>> ChannelValues(const HostTensor& constant) {
  const std::vector<std::int64_t>& shape = constant.shape;
  const std::int64_t count = constant.numel();
  constexpr std::int64_t kMaxChannels = 1 << 20;
  const bool per_channel = shape.size() >= 3 && shape[shape.size() - 3] == count;
  if (count < 1 || count > kMaxChannels || (count != 1 && !per_channel)) return std::nullopt;
  const HostTensor floats = constant.ToFloat32();
  return std::vector<double>(floats.floats().begin(), floats.floats().end());
}

// Gives both the same number of values.
bool Broadcast(std::vector<double>* a, std::size_t size) {
  if (a->size() == 1) a->assign(size, a->front());
  return a->size() == size;
}

// (x - mean) * scale, then `op` with `constant`, again as (x - mean) * scale.
bool Append(ForeignOp op, std::vector<double> constant, PixelMap* map) {
  PixelMap next = *map;
  const std::size_t size = std::max(constant.size(), next.mean.size());
  if (!Broadcast(&constant, size) || !Broadcast(&next.mean, size) ||
      !Broadcast(&next.scale, size)) {
    return false;
  }
  for (std::size_t i = 0; i < size; ++i) {
    if (op == ForeignOp::kMultiply) {
      next.scale[i] *= constant[i];
      if (next.scale[i] == 0) return false;
    } else {
      const double shift = op == ForeignOp::kSubtract ? constant[i] : -constant[i];
      next.mean[i] += shift / next.scale[i];
    }
  }
  *map = std::move(next);
  return true;
}

// 128 for 1 / 128, and 127.5 for the float32 that is nearest to 1 / 127.5.
double InverseOf(double scale) {
  const double inverse = 1 / scale;
  constexpr double kDigits = 1e4;
  const double rounded = std::round(inverse * kDigits) / kDigits;
  const bool same = static_cast<float>(1 / rounded) == static_cast<float>(scale);
  return rounded != 0 && same ? rounded : inverse;
}

bool AllEqual(const std::vector<double>& values) {
  return std::adjacent_find(values.begin(), values.end(), std::not_equal_to<>()) == values.end();
}

Preprocessing ToPreprocessing(const PixelMap& map) {
  if (!AllEqual(map.mean) || !AllEqual(map.scale) || map.scale[0] < 0) {
    throw Error(ErrorCode::kInvalidArgument,
                "its first nodes shift or scale the colours of a pixel differently, or turn them "
                "round; models that do the same with all three are read");
  }
  return {map.mean[0], InverseOf(map.scale[0])};
}

void BecomeIdentity(ForeignNode* node) {
  node->op = ForeignOp::kIdentity;
  node->tensors.clear();
}

class Simplifier {
 public:
  explicit Simplifier(ForeignGraph* graph) : graph_(*graph), uses_(graph->nodes.size(), 0) {
    for (const ForeignNode& node : graph_.nodes) {
      for (const int input : node.inputs) ++uses_[static_cast<std::size_t>(input)];
    }
  }

  void TakePreprocessing() {
    PixelMap map;
    bool found = false;
    int at = -1;  // the input and what is only the input, shifted and scaled
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      ForeignNode& node = graph_.nodes[i];
      const auto index = static_cast<int>(i);
      if (node.op == ForeignOp::kInput) at = index;
      if (at < 0 || node.inputs != std::vector<int>{at} ||
          uses_[static_cast<std::size_t>(at)] != 1) {
        continue;
      }
      if (node.op == ForeignOp::kIdentity) {
        at = index;
      } else if (TakeStep(&node, &map)) {
        at = index;
        found = true;
      }
    }
    if (found) graph_.preprocessing = ToPreprocessing(map);
  }

  void TakeBiases() {
    for (ForeignNode& node : graph_.nodes) {
      const HostTensor* constant = node.tensor("constant");
      if (node.op != ForeignOp::kAdd || constant == nullptr || node.inputs.size() != 1) continue;
      ForeignNode& before = graph_.nodes[static_cast<std::size_t>(node.inputs[0])];
      if (uses_[static_cast<std::size_t>(node.inputs[0])] != 1 || !CanTakeBias(before, *constant)) {
        continue;
      }
      before.tensors["bias"] = constant->Reshaped({constant->numel()});
      BecomeIdentity(&node);
    }
  }

  void DropOutputNormalisation() {
    const ForeignNode& node = graph_.node(graph_.output);
    const bool normalises =
        node.foreign_op == "L2Normalization" || node.foreign_op == "LpNormalization";
    if (normalises && node.inputs.size() == 1) graph_.output = node.inputs[0];
  }

 private:
  static bool TakeStep(ForeignNode* node, PixelMap* map) {
    const HostTensor* constant = node->tensor("constant");
    const bool arithmetic = node->op == ForeignOp::kAdd || node->op == ForeignOp::kSubtract ||
                            node->op == ForeignOp::kMultiply;
    if (!arithmetic || constant == nullptr || node->constant_first) return false;
    auto values = ChannelValues(*constant);
    if (!values || !Append(node->op, std::move(*values), map)) return false;
    BecomeIdentity(node);
    return true;
  }

  static bool CanTakeBias(const ForeignNode& before, const HostTensor& constant) {
    const HostTensor* weight = before.tensor("weight");
    if (weight == nullptr || weight->shape.empty() || before.tensor("bias") != nullptr) {
      return false;
    }
    const std::int64_t out = weight->shape[0];
    if (constant.numel() != out) return false;
    const std::vector<std::int64_t>& shape = constant.shape;
    if (before.op == ForeignOp::kLinear) return shape.back() == out;
    return before.op == ForeignOp::kConv && shape.size() >= 3 && shape[shape.size() - 3] == out;
  }

  ForeignGraph& graph_;
  std::vector<int> uses_;
};

}  // namespace

void SimplifyForeign(ForeignGraph* graph) {
  Simplifier simplifier(graph);
  simplifier.TakePreprocessing();
  simplifier.TakeBiases();
  simplifier.DropOutputNormalisation();
}

}  // namespace fr
