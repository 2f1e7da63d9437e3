#include "common/networks/graph.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/base/error.h"

namespace fr {
namespace {

constexpr Init kZero{Init::Kind::kConstant, 0};
constexpr Init kOne{Init::Kind::kConstant, 1};
constexpr double kPReluSlope = 0.25;  // torch.nn.PReLU's start

std::int64_t Product(const std::vector<std::int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

// Places of a window along one dimension; with `ceil` one may begin inside and end outside, but
// must not begin in the padding behind.
std::int64_t Places(std::int64_t size, std::int64_t kernel, std::int64_t stride,
                    std::int64_t padding, bool ceil) {
  const std::int64_t room = size + 2 * padding - kernel;
  if (room < 0) return 0;
  std::int64_t places = (room + (ceil ? stride - 1 : 0)) / stride + 1;
  if (ceil && (places - 1) * stride >= size + padding) --places;
  return places;
}

// Of a weight [out, in / groups, kh, kw] or [out, in].
double FanIn(const std::vector<std::int64_t>& shape) {
  const std::int64_t values = Product(shape) / shape[0];
  return static_cast<double>(values);
}

double FanOut(const std::vector<std::int64_t>& shape) {
  const std::int64_t values = Product(shape) / shape[1];
  return static_cast<double>(values);
}

Init ResolveWeight(const WeightInit& init, const std::vector<std::int64_t>& shape) {
  const double fan_in = FanIn(shape);
  switch (init.kind) {
    case WeightInit::Kind::kNormal:
      return {Init::Kind::kNormal, init.value};
    case WeightInit::Kind::kTruncatedNormal:
      return {Init::Kind::kTruncatedNormal, init.value};
    case WeightInit::Kind::kKaimingFanOut:
      return {Init::Kind::kNormal, std::sqrt(2 / FanOut(shape))};
    case WeightInit::Kind::kKaimingFanIn:
      return {Init::Kind::kNormal, std::sqrt(2 / fan_in)};
    case WeightInit::Kind::kUniformFanIn:
      return {Init::Kind::kUniform, std::sqrt(init.value / fan_in)};
    case WeightInit::Kind::kTorch:
      break;
  }
  return {Init::Kind::kUniform, 1 / std::sqrt(fan_in)};
}

Init ResolveBias(const WeightInit& init, const std::vector<std::int64_t>& weight_shape) {
  if (init.kind != WeightInit::Kind::kTorch && init.kind != WeightInit::Kind::kNormal) return kZero;
  return {Init::Kind::kUniform, 1 / std::sqrt(FanIn(weight_shape))};
}

}  // namespace

const char* OpName(Op op) {
  switch (op) {
    case Op::kInput:
      return "input";
    case Op::kConv:
      return "conv";
    case Op::kBatchNorm:
      return "batch_norm";
    case Op::kLayerNorm:
      return "layer_norm";
    case Op::kPRelu:
      return "prelu";
    case Op::kRelu:
      return "relu";
    case Op::kRelu6:
      return "relu6";
    case Op::kSigmoid:
      return "sigmoid";
    case Op::kAdd:
      return "add";
    case Op::kMultiply:
      return "multiply";
    case Op::kConcat:
      return "concat";
    case Op::kSlice:
      return "slice";
    case Op::kMaxPool:
      return "max_pool";
    case Op::kAveragePool:
      return "average_pool";
    case Op::kGlobalAveragePool:
      return "global_average_pool";
    case Op::kFlatten:
      return "flatten";
    case Op::kDropout:
      return "dropout";
    case Op::kLinear:
      return "linear";
    case Op::kTokens:
      return "tokens";
    case Op::kAddPositions:
      return "add_positions";
    case Op::kAttention:
      return "attention";
    case Op::kDropPath:
      return "drop_path";
    case Op::kHideTokens:
      return "hide_tokens";
    case Op::kRestoreTokens:
      return "restore_tokens";
  }
  return "unknown";
}

std::int64_t Parameter::numel() const { return Product(shape); }

bool Node::has_bias() const {
  return (op == Op::kConv || op == Op::kLinear) && parameters.size() == 2;
}

std::vector<Parameter> Graph::Parameters() const {
  std::vector<Parameter> all;
  for (const Node& node : nodes_) {
    all.insert(all.end(), node.parameters.begin(), node.parameters.end());
  }
  return all;
}

std::vector<int> Graph::UseCounts() const {
  std::vector<int> counts(nodes_.size(), 0);
  for (const Node& node : nodes_) {
    for (const int input : node.inputs) ++counts[static_cast<std::size_t>(input)];
  }
  return counts;
}

GraphBuilder::GraphBuilder(std::array<std::int64_t, 3> image) {
  Append(Op::kInput, "input", {}, {image[0], image[1], image[2]});
}

void GraphBuilder::Fail(const std::string& name, const std::string& what) {
  throw Error(ErrorCode::kInvalidArgument, fmt::format("network node '{}': {}", name, what));
}

void GraphBuilder::RequireMap(const std::string& name, int x) const {
  if (shape(x).size() == 3) return;
  Fail(name, fmt::format("it needs a feature map [c, h, w], not [{}]", fmt::join(shape(x), ", ")));
}

void GraphBuilder::RequireTokens(const std::string& name, int x) const {
  if (shape(x).size() == 2) return;
  Fail(name, fmt::format("it needs tokens [t, d], not [{}]", fmt::join(shape(x), ", ")));
}

const std::vector<std::int64_t>& GraphBuilder::shape(int x) const { return graph_.node(x).shape; }

Node& GraphBuilder::Append(Op op, const std::string& name, std::vector<int> inputs,
                           std::vector<std::int64_t> shape) {
  if (std::any_of(shape.begin(), shape.end(), [](std::int64_t size) { return size < 1; })) {
    Fail(name, fmt::format("its result would be empty: [{}]", fmt::join(shape, ", ")));
  }
  Node node;
  node.op = op;
  node.name = name;
  node.inputs = std::move(inputs);
  node.shape = std::move(shape);
  node.block = block_;
  graph_.nodes_.push_back(std::move(node));
  return graph_.nodes_.back();
}

int GraphBuilder::Pointwise(Op op, const std::string& name, int x) {
  Append(op, name, {x}, shape(x));
  return Last();
}

int GraphBuilder::Conv(const std::string& name, int x, const ConvSpec& spec) {
  RequireMap(name, x);
  const std::vector<std::int64_t> in = shape(x);
  if (spec.stride < 1) Fail(name, "a stride of at least 1 is needed");
  if (spec.groups < 1 || in[0] % spec.groups != 0 || spec.out % spec.groups != 0) {
    Fail(name, fmt::format("{} channels in and {} out do not divide into {} groups", in[0],
                           spec.out, spec.groups));
  }
  Node& node = Append(Op::kConv, name, {x},
                      {spec.out, Places(in[1], spec.kernel[0], spec.stride, spec.padding[0], false),
                       Places(in[2], spec.kernel[1], spec.stride, spec.padding[1], false)});
  node.window = {spec.kernel, {spec.stride, spec.stride}, spec.padding};
  node.groups = spec.groups;
  const std::vector<std::int64_t> weight = {spec.out, in[0] / spec.groups, spec.kernel[0],
                                            spec.kernel[1]};
  node.parameters.push_back(
      {name + ".weight", weight, Parameter::Role::kTrained, ResolveWeight(conv_init_, weight)});
  if (spec.bias) {
    node.parameters.push_back(
        {name + ".bias", {spec.out}, Parameter::Role::kTrained, ResolveBias(conv_init_, weight)});
  }
  return Last();
}

int GraphBuilder::BatchNorm(const std::string& name, int x, bool fixed_weight) {
  const std::int64_t channels = this->channels(x);
  Node& node = Append(Op::kBatchNorm, name, {x}, shape(x));
  node.epsilon = batch_norm_epsilon_;
  using Role = Parameter::Role;
  node.parameters = {
      {name + ".weight", {channels}, fixed_weight ? Role::kFixed : Role::kTrained, kOne},
      {name + ".bias", {channels}, Role::kTrained, kZero},
      {name + ".running_mean", {channels}, Role::kRunning, kZero},
      {name + ".running_var", {channels}, Role::kRunning, kOne},
      {name + ".num_batches_tracked", {}, Role::kCounter, kZero}};
  return Last();
}

int GraphBuilder::LayerNorm(const std::string& name, int x, double epsilon) {
  const std::int64_t size = shape(x).back();
  Node& node = Append(Op::kLayerNorm, name, {x}, shape(x));
  node.epsilon = epsilon;
  node.parameters = {{name + ".weight", {size}, Parameter::Role::kTrained, kOne},
                     {name + ".bias", {size}, Parameter::Role::kTrained, kZero}};
  return Last();
}

int GraphBuilder::PRelu(const std::string& name, int x) {
  Node& node = Append(Op::kPRelu, name, {x}, shape(x));
  node.parameters = {{name + ".weight",
                      {node.shape.front()},
                      Parameter::Role::kTrained,
                      {Init::Kind::kConstant, kPReluSlope}}};
  return Last();
}

int GraphBuilder::Relu(const std::string& name, int x) { return Pointwise(Op::kRelu, name, x); }
int GraphBuilder::Relu6(const std::string& name, int x) { return Pointwise(Op::kRelu6, name, x); }
int GraphBuilder::Sigmoid(const std::string& name, int x) {
  return Pointwise(Op::kSigmoid, name, x);
}

int GraphBuilder::Add(const std::string& name, int a, int b, double factor) {
  if (shape(a) != shape(b)) {
    Fail(name, fmt::format("[{}] and [{}] cannot be added", fmt::join(shape(a), ", "),
                           fmt::join(shape(b), ", ")));
  }
  Append(Op::kAdd, name, {a, b}, shape(a)).factor = factor;
  return Last();
}

int GraphBuilder::Multiply(const std::string& name, int x, int gate) {
  RequireMap(name, x);
  if (shape(gate) != std::vector<std::int64_t>{channels(x), 1, 1}) {
    Fail(name, "the gate must have one value a channel");
  }
  Append(Op::kMultiply, name, {x, gate}, shape(x));
  return Last();
}

int GraphBuilder::Concat(const std::string& name, const std::vector<int>& inputs) {
  if (inputs.empty()) Fail(name, "nothing to concatenate");
  std::vector<std::int64_t> out = shape(inputs.front());
  out[0] = 0;
  for (const int input : inputs) {
    RequireMap(name, input);
    const std::vector<std::int64_t>& in = shape(input);
    if (in[1] != out[1] || in[2] != out[2]) {
      Fail(name, "feature maps of different sizes cannot be concatenated");
    }
    out[0] += in[0];
  }
  Append(Op::kConcat, name, inputs, out);
  return Last();
}

int GraphBuilder::Slice(const std::string& name, int x, std::int64_t begin, std::int64_t end) {
  RequireMap(name, x);
  std::vector<std::int64_t> out = shape(x);
  if (begin < 0 || end > out[0]) {
    Fail(name, fmt::format("channels [{}, {}) of {} are not there", begin, end, out[0]));
  }
  out[0] = end - begin;
  Node& node = Append(Op::kSlice, name, {x}, out);
  node.begin = begin;
  node.end = end;
  return Last();
}

int GraphBuilder::Pool(Op op, const std::string& name, int x, const PoolSpec& spec) {
  RequireMap(name, x);
  if (spec.stride < 1) Fail(name, "a stride of at least 1 is needed");
  const std::vector<std::int64_t> in = shape(x);
  Node& node = Append(op, name, {x},
                      {in[0], Places(in[1], spec.kernel, spec.stride, spec.padding, spec.ceil_mode),
                       Places(in[2], spec.kernel, spec.stride, spec.padding, spec.ceil_mode)});
  node.window = {
      {spec.kernel, spec.kernel}, {spec.stride, spec.stride}, {spec.padding, spec.padding}};
  node.ceil_mode = spec.ceil_mode;
  node.count_padding = spec.count_padding;
  return Last();
}

int GraphBuilder::MaxPool(const std::string& name, int x, const PoolSpec& spec) {
  return Pool(Op::kMaxPool, name, x, spec);
}

int GraphBuilder::AveragePool(const std::string& name, int x, const PoolSpec& spec) {
  return Pool(Op::kAveragePool, name, x, spec);
}

int GraphBuilder::GlobalAveragePool(const std::string& name, int x) {
  RequireMap(name, x);
  Append(Op::kGlobalAveragePool, name, {x}, {channels(x), 1, 1});
  return Last();
}

int GraphBuilder::Flatten(const std::string& name, int x) {
  Append(Op::kFlatten, name, {x}, {Product(shape(x))});
  return Last();
}

int GraphBuilder::Dropout(const std::string& name, int x, double probability) {
  if (probability == 0) return x;
  Append(Op::kDropout, name, {x}, shape(x)).probability = probability;
  return Last();
}

int GraphBuilder::Linear(const std::string& name, int x, std::int64_t out, bool bias) {
  std::vector<std::int64_t> result = shape(x);
  const std::vector<std::int64_t> weight = {out, result.back()};
  result.back() = out;
  Node& node = Append(Op::kLinear, name, {x}, result);
  node.parameters.push_back(
      {name + ".weight", weight, Parameter::Role::kTrained, ResolveWeight(linear_init_, weight)});
  if (bias) {
    node.parameters.push_back(
        {name + ".bias", {out}, Parameter::Role::kTrained, ResolveBias(linear_init_, weight)});
  }
  return Last();
}

int GraphBuilder::Tokens(const std::string& name, int x) {
  RequireMap(name, x);
  const std::vector<std::int64_t> in = shape(x);
  Append(Op::kTokens, name, {x}, {in[1] * in[2], in[0]});
  return Last();
}

int GraphBuilder::AddPositions(const std::string& name, int x, Init init) {
  RequireTokens(name, x);
  const std::vector<std::int64_t> in = shape(x);
  Append(Op::kAddPositions, name, {x}, in).parameters = {
      {name, {1, in[0], in[1]}, Parameter::Role::kTrained, init}};
  return Last();
}

int GraphBuilder::Attention(const std::string& name, int qkv, std::int64_t heads) {
  RequireTokens(name, qkv);
  const std::vector<std::int64_t> in = shape(qkv);
  if (heads < 1 || in[1] % (3 * heads) != 0) {
    Fail(name, fmt::format("tokens of {} values do not divide into queries, keys and values of {} "
                           "heads",
                           in.back(), heads));
  }
  Append(Op::kAttention, name, {qkv}, {in[0], in[1] / 3}).heads = heads;
  return Last();
}

int GraphBuilder::DropPath(const std::string& name, int x, double probability) {
  if (probability == 0) return x;
  Append(Op::kDropPath, name, {x}, shape(x)).probability = probability;
  return Last();
}

int GraphBuilder::HideTokens(const std::string& name, int x, double probability) {
  RequireTokens(name, x);
  Append(Op::kHideTokens, name, {x}, shape(x)).probability = probability;
  return Last();
}

int GraphBuilder::RestoreTokens(const std::string& name, int x, int hidden, Init init) {
  RequireTokens(name, x);
  if (graph_.node(hidden).op != Op::kHideTokens || shape(hidden) != shape(x)) {
    Fail(name, fmt::format("'{}' hides none of its tokens", graph_.node(hidden).name));
  }
  const std::vector<std::int64_t> in = shape(x);
  Append(Op::kRestoreTokens, name, {x, hidden}, in).parameters = {
      {name, {1, 1, in[1]}, Parameter::Role::kTrained, init}};
  return Last();
}

Graph GraphBuilder::Finish() {
  if (graph_.nodes().back().shape.size() != 1) {
    throw Error(ErrorCode::kInternal, "a network must end in a vector");
  }
  std::set<std::string> names;
  for (const Node& node : graph_.nodes()) {
    if (!names.insert(node.name).second) {
      throw Error(ErrorCode::kInternal, fmt::format("two nodes are named '{}'", node.name));
    }
  }
  return std::move(graph_);
}

}  // namespace fr
