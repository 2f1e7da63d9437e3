#include "worker/weights/match.h"

#include <cmath>
#include <utility>
#include <vector>

#include "worker/weights/structure_match.h"

namespace fr {
namespace {

using Floats = std::vector<float>;

Floats FloatsOf(const HostTensor& tensor) {
  const HostTensor floats = tensor.ToFloat32();
  return {floats.floats().begin(), floats.floats().end()};
}

class Extractor {
 public:
  Extractor(const Graph& ours, const ForeignGraph& theirs)
      : ours_(ours), theirs_(theirs), match_(MatchStructure(ours, theirs)) {}

  std::map<std::string, HostTensor> Run() {
    for (std::size_t i = 0; i < ours_.nodes().size(); ++i) {
      const Node& node = ours_.nodes()[i];
      if (node.op == Op::kBatchNorm) {
        TakeBatchNorm(node, static_cast<int>(i));
      } else if (match_.theirs[i] >= 0 && !node.parameters.empty()) {
        TakeLayer(node, theirs_.node(match_.theirs[i]));
      }
    }
    return std::move(tensors_);
  }

 private:
  void Put(const Parameter& parameter, const HostTensor& tensor) {
    tensors_[parameter.name] = tensor.ToFloat32().Reshaped(parameter.shape);
  }
  void Put(const Parameter& parameter, Floats values) {
    tensors_[parameter.name] = HostTensor::FromFloats(parameter.shape, std::move(values));
  }

  // conv, linear, prelu, layer norm: weight and perhaps bias.
  void TakeLayer(const Node& mine, const ForeignNode& other) {
    const Parameter& weight = mine.weight();
    const auto count = static_cast<std::size_t>(weight.numel());
    const HostTensor& theirs = *other.tensor(mine.op == Op::kPRelu ? "slope" : "weight");
    if (mine.op == Op::kPRelu && theirs.numel() == 1) {
      Put(weight, Floats(count, FloatsOf(theirs)[0]));
    } else {
      Put(weight, theirs);
    }
    if (mine.parameters.size() < 2) return;
    const Parameter& bias = mine.parameters[1];
    if (const HostTensor* tensor = other.tensor("bias")) {
      Put(bias, *tensor);
    } else {
      Put(bias, Floats(static_cast<std::size_t>(bias.numel()), 0.0F));
    }
  }

  // The bias of theirs that the layer before ours has no place for; empty if there is none.
  Floats HomelessBias(const Node& batch_norm) const {
    const int before = SkipOurs(ours_, batch_norm.inputs[0]);
    const int theirs = match_.theirs[static_cast<std::size_t>(before)];
    const Node& layer = ours_.node(before);
    const bool is_layer = layer.op == Op::kConv || layer.op == Op::kLinear;
    if (!is_layer || layer.has_bias() || theirs < 0) return {};
    const HostTensor* bias = theirs_.node(theirs).tensor("bias");
    return bias == nullptr ? Floats() : FloatsOf(*bias);
  }

  void TakeBatchNorm(const Node& mine, int index) {
    const Floats bias = HomelessBias(mine);
    if (match_.folded[static_cast<std::size_t>(index)]) return TakeFolded(mine, bias);
    const ForeignNode& other = theirs_.node(match_.theirs[static_cast<std::size_t>(index)]);
    Floats mean = FloatsOf(*other.tensor("running_mean"));
    for (std::size_t i = 0; i < bias.size(); ++i) mean[i] -= bias[i];
    Floats variance = FloatsOf(*other.tensor("running_var"));
    const double shift = other.epsilon - mine.epsilon;
    // An eps that went through float32 is still the same.
    constexpr double kRounding = 1e-6;
    if (std::abs(shift) > kRounding * mine.epsilon) {
      for (float& value : variance) value = static_cast<float>(value + shift);
    }
    Put(mine.parameters[0], *other.tensor("weight"));
    Put(mine.parameters[1], *other.tensor("bias"));
    Put(mine.parameters[2], std::move(mean));
    Put(mine.parameters[3], std::move(variance));
  }

  // weight / sqrt(running_var + eps) is 1. A scale that is fixed at one stays so.
  void TakeFolded(const Node& mine, const Floats& bias) {
    const auto channels = static_cast<std::size_t>(mine.weight().numel());
    const bool fixed = mine.weight().role == Parameter::Role::kFixed;
    const double weight = fixed ? 1 : std::sqrt(1 + mine.epsilon);
    const double variance = fixed ? 1 - mine.epsilon : 1;
    Put(mine.parameters[0], Floats(channels, static_cast<float>(weight)));
    Put(mine.parameters[1], bias.empty() ? Floats(channels, 0.0F) : bias);
    Put(mine.parameters[2], Floats(channels, 0.0F));
    Put(mine.parameters[3], Floats(channels, static_cast<float>(variance)));
  }

  const Graph& ours_;
  const ForeignGraph& theirs_;
  StructureMatch match_;
  std::map<std::string, HostTensor> tensors_;
};

}  // namespace

std::map<std::string, HostTensor> MatchForeignGraph(const Graph& ours, const ForeignGraph& theirs) {
  return Extractor(ours, theirs).Run();
}

}  // namespace fr
