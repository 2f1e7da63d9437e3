#include "worker/backbones/run/compute_node.h"

#include <algorithm>
#include <optional>

#include "common/base/checksum.h"
#include "common/base/error.h"
#include "common/base/random.h"
#include "worker/backbones/kernels/backbone_kernels.h"

namespace fr {
namespace {

using Tensors = std::vector<at::Tensor>;

std::optional<at::Tensor> Bias(const Node& node, const Tensors& parameters, at::ScalarType type) {
  if (!node.has_bias()) return std::nullopt;
  return parameters[1].to(type);
}

at::Tensor Conv(const Node& node, const at::Tensor& x, const Tensors& parameters) {
  const Window& w = node.window;
  return at::conv2d(x, parameters[0].to(x.scalar_type()), Bias(node, parameters, x.scalar_type()),
                    w.stride, w.padding, {1, 1}, node.groups);
}

at::Tensor BatchNorm(const Node& node, const at::Tensor& x, const Tensors& p,
                     const ComputeMode& mode) {
  if (mode.training) p[4].add_(1);
  return at::batch_norm(x, p[0], p[1], p[2], p[3], mode.training, kNormMomentum, node.epsilon,
                        /*cudnn_enabled=*/false);
}

// Draws once per name: who computes the node again gets the same.
template <typename DrawFunction>
at::Tensor Drawn(const Node& node, const ComputeMode& mode, const DrawFunction& draw) {
  const auto found = mode.drawn->find(node.name);
  if (found != mode.drawn->end()) return found->second;
  return mode.drawn->emplace(node.name, draw()).first->second;
}

// Calls draw(i, generator) for each of `samples`, with a generator of the sample's own.
template <typename DrawFunction>
void ForEachSample(const Node& node, const ComputeMode& mode, std::int64_t samples,
                   const DrawFunction& draw) {
  Checksum name;
  name.Update(node.name.data(), node.name.size());
  const std::uint64_t key = MixKeys(mode.draws.key, name.Value());
  at::Generator generator = at::detail::createCPUGenerator();
  for (std::int64_t i = 0; i < samples; ++i) {
    generator.set_current_seed(
        MixKeys(key, static_cast<std::uint64_t>(mode.draws.first_sample + i)));
    draw(i, generator);
  }
}

bool IsRandom(const Node& node, const ComputeMode& mode) {
  return mode.training && mode.randomness && node.probability > 0;
}

// x times 0 or 1 / (1 - p): one draw a value, or one a sample.
at::Tensor Drop(const Node& node, const at::Tensor& x, const ComputeMode& mode, bool per_sample) {
  if (!IsRandom(node, mode)) return x;
  const double keep = 1 - node.probability;
  const at::Tensor factors = Drawn(node, mode, [&] {
    std::vector<std::int64_t> sizes = x.sizes().vec();
    if (per_sample) std::fill(sizes.begin() + 1, sizes.end(), 1);
    at::Tensor kept = at::empty(sizes, at::TensorOptions(x.scalar_type()));
    ForEachSample(node, mode, x.size(0), [&](std::int64_t i, const at::Generator& generator) {
      kept[i].bernoulli_(keep, generator);
    });
    return kept.div_(keep).to(x.device());
  });
  return x * factors;
}

// [n, kept] -> [n, kept, d], for gather and scatter.
at::Tensor LikeTokens(const at::Tensor& kept, std::int64_t d) {
  return kept.unsqueeze(2).expand({-1, -1, d});
}

at::Tensor HideTokens(const Node& node, const at::Tensor& x, const ComputeMode& mode) {
  if (!IsRandom(node, mode)) return x;
  const auto keep =
      static_cast<std::int64_t>(static_cast<double>(x.size(1)) * (1 - node.probability));
  const at::Tensor kept = Drawn(node, mode, [&] {
    at::Tensor order = at::empty({x.size(0), x.size(1)});
    ForEachSample(node, mode, x.size(0), [&](std::int64_t i, const at::Generator& generator) {
      order[i].uniform_(0, 1, generator);
    });
    return order.argsort(/*dim=*/std::int64_t{1}, /*descending=*/false)
        .slice(1, 0, keep)
        .contiguous()
        .to(x.device());
  });
  return x.gather(1, LikeTokens(kept, x.size(2)));
}

at::Tensor RestoreTokens(const Node& node, const at::Tensor& x, const at::Tensor& token,
                         const std::string& hidden_by, const ComputeMode& mode) {
  const std::int64_t all = node.shape[0];
  if (x.size(1) == all) return x;
  const at::Tensor& kept = mode.drawn->at(hidden_by);
  const at::Tensor base = token.to(x.scalar_type()).expand({x.size(0), all, x.size(2)});
  return base.scatter(1, LikeTokens(kept, x.size(2)), x);
}

at::Tensor Attention(const Node& node, const at::Tensor& qkv) {
  const std::int64_t d = qkv.size(2) / 3;
  const at::Tensor parts =
      qkv.view({qkv.size(0), qkv.size(1), 3, node.heads, d / node.heads}).permute({2, 0, 3, 1, 4});
  return at::scaled_dot_product_attention(parts[0], parts[1], parts[2])
      .transpose(1, 2)
      .reshape({qkv.size(0), qkv.size(1), d});
}

}  // namespace

at::Tensor ComputeNode(const Graph& graph, int index, const Tensors& inputs,
                       const Tensors& parameters, const ComputeMode& mode) {
  const Node& node = graph.node(index);
  const at::Tensor& x = inputs.at(0);
  const Window& w = node.window;
  switch (node.op) {
    case Op::kInput:
      return x;
    case Op::kConv:
      return Conv(node, x, parameters);
    case Op::kBatchNorm:
      return BatchNorm(node, x, parameters, mode);
    case Op::kLayerNorm:
      return at::layer_norm(x, {x.size(-1)}, parameters[0], parameters[1], node.epsilon);
    case Op::kPRelu:
      return at::prelu(x, parameters[0].to(x.scalar_type()));
    case Op::kRelu:
      return at::relu(x);
    case Op::kRelu6:
      return at::hardtanh(x, 0, 6);
    case Op::kSigmoid:
      return at::sigmoid(x);
    case Op::kAdd:
      return at::add(x, inputs[1], node.factor);
    case Op::kMultiply:
      return x * inputs[1];
    case Op::kConcat:
      return at::cat(inputs, 1);
    case Op::kSlice:
      return x.slice(1, node.begin, node.end);
    case Op::kMaxPool:
      return at::max_pool2d(x, w.kernel, w.stride, w.padding, {1, 1}, node.ceil_mode);
    case Op::kAveragePool:
      return at::avg_pool2d(x, w.kernel, w.stride, w.padding, node.ceil_mode, node.count_padding);
    case Op::kGlobalAveragePool:
      return x.mean({2, 3}, /*keepdim=*/true);
    case Op::kFlatten:
      return x.flatten(1).to(torch::kFloat32);
    case Op::kDropout:
      return Drop(node, x, mode, /*per_sample=*/false);
    case Op::kLinear:
      return at::linear(x, parameters[0].to(x.scalar_type()),
                        Bias(node, parameters, x.scalar_type()));
    case Op::kTokens:
      return x.flatten(2).transpose(1, 2);
    case Op::kAddPositions:
      return x + parameters[0].to(x.scalar_type());
    case Op::kAttention:
      return Attention(node, x);
    case Op::kDropPath:
      return Drop(node, x, mode, /*per_sample=*/true);
    case Op::kHideTokens:
      return HideTokens(node, x, mode);
    case Op::kRestoreTokens:
      return RestoreTokens(node, x, parameters[0], graph.node(node.inputs[1]).name, mode);
  }
  throw Error(ErrorCode::kInternal, "a node of no known kind");
}

at::Tensor ComputeGraph(const Graph& graph, const NetworkState& state, const at::Tensor& images,
                        at::ScalarType precision, const ComputeMode& mode,
                        std::map<std::string, at::Tensor>* values) {
  std::vector<Tensors> parameters;
  for (const Node& node : graph.nodes()) parameters.push_back(state.Of(node));
  return ComputeGraph(graph, parameters, images.to(precision), mode, values);
}

at::Tensor ComputeGraph(const Graph& graph, const std::vector<Tensors>& parameters,
                        const at::Tensor& images, const ComputeMode& mode,
                        std::map<std::string, at::Tensor>* values) {
  std::map<std::string, at::Tensor> drawn;
  ComputeMode own = mode;
  if (own.drawn == nullptr) own.drawn = &drawn;
  std::vector<int> uses = graph.UseCounts();
  Tensors computed(graph.nodes().size());
  for (int i = 0; i <= graph.output(); ++i) {
    const auto index = static_cast<std::size_t>(i);
    const Node& node = graph.node(i);
    Tensors inputs;
    for (const int input : node.inputs) {
      const auto at = static_cast<std::size_t>(input);
      inputs.push_back(computed[at]);
      if (--uses[at] == 0) computed[at].reset();
    }
    if (node.op == Op::kInput) inputs = {images};
    computed[index] = ComputeNode(graph, i, inputs, parameters[index], own);
    if (values != nullptr) (*values)[node.name] = computed[index];
  }
  return computed.back().to(torch::kFloat32);
}

}  // namespace fr
