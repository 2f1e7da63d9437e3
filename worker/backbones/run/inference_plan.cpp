#include "worker/backbones/run/inference_plan.h"

#include <list>
#include <map>
#include <optional>
#include <utility>

#include <ATen/core/dispatch/Dispatcher.h>

#include "worker/backbones/run/affine.h"
#include "worker/backbones/run/compute_node.h"
#include "worker/backbones/run/depthwise.h"
#include "worker/backbones/run/rows.h"
#include "worker/gpu/gpu.h"

namespace fr {
namespace {

// oneDNN's convolution with weights in its own layout, where this LibTorch has it.
class PackedConv {
 public:
  PackedConv(const Node& node, at::Tensor weight, at::Tensor bias,
             const std::vector<std::int64_t>& in, std::int64_t batch, bool relu)
      : window_(node.window),
        groups_(node.groups),
        weight_(std::move(weight)),
        bias_(std::move(bias)),
        relu_(relu) {
    if (GpuOf(weight_) != nullptr) return;
    auto& dispatcher = c10::Dispatcher::singleton();
    const auto reorder = dispatcher.findSchema({"mkldnn::_reorder_convolution_weight", ""});
    const auto pointwise = dispatcher.findSchema({"mkldnn::_convolution_pointwise", ""});
    if (!reorder || !pointwise || !reorder->hasKernelForDispatchKey(c10::DispatchKey::CPU)) return;
    torch::jit::Stack stack;
    torch::jit::push(stack, weight_, Ints(window_.padding), Ints(window_.stride), kDilation,
                     groups_, std::vector<std::int64_t>{batch, in[0], in[1], in[2]});
    reorder->callBoxed(&stack);
    weight_ = stack.back().toTensor();
    pointwise_ = pointwise;
  }

  at::Tensor operator()(const at::Tensor& x) const {
    const std::optional<at::Tensor> bias =
        bias_.defined() ? std::optional<at::Tensor>(bias_) : std::nullopt;
    if (!pointwise_) {
      at::Tensor y =
          at::conv2d(x, weight_, bias_, window_.stride, window_.padding, kDilation, groups_);
      return relu_ ? y.relu_() : y;
    }
    torch::jit::Stack stack;
    torch::jit::push(stack, x, weight_, bias, Ints(window_.padding), Ints(window_.stride),
                     kDilation, groups_, relu_ ? "relu" : "none",
                     c10::List<std::optional<at::Scalar>>(), std::string());
    pointwise_->callBoxed(&stack);
    return stack.back().toTensor();
  }

 private:
  static inline const std::vector<std::int64_t> kDilation = {1, 1};
  static std::vector<std::int64_t> Ints(const std::array<std::int64_t, 2>& pair) {
    return {pair[0], pair[1]};
  }

  Window window_;
  std::int64_t groups_;
  at::Tensor weight_;
  at::Tensor bias_;
  bool relu_;
  std::optional<c10::OperatorHandle> pointwise_;
};

// What becomes of one or several nodes: a product or a copy of `input`, then one pass of an affine
// map, a sum and an activation, then perhaps a batch norm of that beside it.
struct Stage {
  int input = 0;
  std::optional<int> product;  // a kConv or kLinear node; else the pass alone
  at::Tensor scale;            // folded into the product, by output; undefined: none
  at::Tensor offset;           // [out]; undefined: none
  at::Tensor input_scale;      // [in] folded into a linear product's columns
  at::Tensor input_offset;
  std::array<std::int64_t, 2> flattened_map = {0, 0};  // linear: channels and pixels of its input
  Activation activation = Activation::kNone;
  at::Tensor slope;
  std::optional<int> residual;
  std::optional<Affine> next;  // of the sum, into next_output
  int next_output = -1;
  int output = 0;
};

bool IsDrop(Op op) {
  return op == Op::kDropout || op == Op::kDropPath || op == Op::kHideTokens ||
         op == Op::kRestoreTokens;
}

}  // namespace

// Walks the graph once and merges each node into the stage before it where the kernels allow.
class InferenceBuilder {
 public:
  InferenceBuilder(const Graph& graph, const NetworkState& state, const InferenceOptions& options,
                   InferencePlan& plan)
      : graph_(graph), state_(state), options_(options), plan_(plan), uses_(graph.UseCounts()) {
    for (int i = 0; i <= graph.output(); ++i) where_.push_back(i);
  }

  void Build() {
    for (int i = 1; i <= graph_.output(); ++i) Visit(i);
    for (const auto& item : stages_) {
      if (item.stage) {
        EmitStage(*item.stage);
      } else {
        EmitNode(item.node);
      }
    }
    plan_.output_ = Where(graph_.output());
    plan_.values_.resize(graph_.nodes().size());
    plan_.uses_.assign(graph_.nodes().size(), 0);
    for (const auto& step : plan_.steps_) {
      for (const int input : step.inputs) ++plan_.uses_[static_cast<std::size_t>(input)];
    }
    ++plan_.uses_[static_cast<std::size_t>(plan_.output_)];
  }

 private:
  // In the order of computation: a stage, or a node as it is.
  struct Item {
    std::optional<Stage> stage;
    int node = 0;
  };
  using Place = std::list<Item>::iterator;

  int Where(int node) const { return where_[static_cast<std::size_t>(node)]; }
  bool UsedOnce(int node) const { return uses_[static_cast<std::size_t>(node)] == 1; }

  // The stage that computes `node`'s value, if that value is wanted here alone.
  std::optional<Place> OwnStage(int node) {
    const auto found = by_output_.find(Where(node));
    if (!UsedOnce(node) || found == by_output_.end()) return std::nullopt;
    return found->second;
  }

  void Visit(int i) {
    const Node& node = graph_.node(i);
    if (IsDrop(node.op)) {
      where_[static_cast<std::size_t>(i)] = Where(node.inputs[0]);
    } else if (node.op == Op::kConv || node.op == Op::kLinear) {
      AddProduct(i);
    } else if (node.op == Op::kBatchNorm) {
      VisitNorm(i);
    } else if (ActivationOf(node.op)) {
      VisitActivation(i);
    } else if (node.op == Op::kAdd && node.factor == 1) {
      VisitAdd(i);
    } else if (node.op == Op::kFlatten && graph_.node(node.inputs[0]).shape.size() == 3 &&
               IsReadByLinearAlone(i)) {
      flattened_[i] = node.inputs[0];
      AddNode(i);
    } else {
      AddNode(i);
    }
  }

  // Then a feature map is flattened as it lies, channels last, and the linear layers' columns are
  // put into that order.
  bool IsReadByLinearAlone(int flatten) const {
    for (int i = flatten + 1; i <= graph_.output(); ++i) {
      const Node& node = graph_.node(i);
      for (const int input : node.inputs) {
        if (input != flatten) continue;
        if (node.op == Op::kLinear) continue;
        if (node.op != Op::kDropout || !IsReadByLinearAlone(i)) return false;
      }
    }
    return flatten != graph_.output();
  }

  Place AddStage(Stage stage) {
    const int output = stage.output;
    stages_.push_back({std::move(stage), 0});
    return by_output_[output] = std::prev(stages_.end());
  }
  void AddNode(int i) { stages_.push_back({std::nullopt, i}); }

  // The stage's result is now node i's value.
  void Extend(Place place, int i) {
    by_output_.erase(place->stage->output);
    place->stage->output = i;
    by_output_[i] = place;
  }

  void AddProduct(int i) {
    const Node& node = graph_.node(i);
    Stage stage;
    stage.input = Where(node.inputs[0]);
    stage.product = i;
    stage.output = i;
    if (node.has_bias()) stage.offset = state_.Of(node)[1].detach().clone();
    if (node.op == Op::kLinear) PrepareLinear(stage);
    AddStage(std::move(stage));
  }

  // What lies between the last feature map and its linear layer goes into the latter's weight.
  void PrepareLinear(Stage& stage) {
    const auto flattened = flattened_.find(stage.input);
    if (flattened == flattened_.end()) return;
    const Node& map = graph_.node(flattened->second);
    stage.flattened_map = {map.shape[0], map.shape[1] * map.shape[2]};
    const auto norm = by_output_.find(Where(flattened->second));
    if (norm == by_output_.end() || !UsedOnce(flattened->second)) return;
    Stage& affine = *norm->second->stage;
    if (affine.product || affine.residual || affine.activation != Activation::kNone) return;
    stage.input_scale = affine.scale;
    stage.input_offset = affine.offset;
    where_[static_cast<std::size_t>(flattened->second)] = affine.input;
    stages_.erase(norm->second);
    by_output_.erase(norm);
  }

  Affine NormAffine(int i) const {
    const Node& node = graph_.node(i);
    const std::vector<at::Tensor> p = state_.Of(node);
    const at::Tensor scale =
        p[0].detach().to(torch::kFloat64) / (p[3].to(torch::kFloat64) + node.epsilon).sqrt();
    const at::Tensor offset = p[1].detach() - p[2] * scale;
    return {scale.to(torch::kFloat32), offset.to(torch::kFloat32), Activation::kNone, {}};
  }

  void VisitNorm(int i) {
    const Node& node = graph_.node(i);
    const Affine norm = NormAffine(i);
    if (const auto place = OwnStage(node.inputs[0])) {
      Stage& stage = *(*place)->stage;
      if (stage.product && !stage.residual && stage.activation == Activation::kNone) {
        stage.scale = stage.scale.defined() ? stage.scale * norm.scale : norm.scale;
        stage.offset =
            stage.offset.defined() ? stage.offset * norm.scale + norm.offset : norm.offset;
        Extend(*place, i);
        return;
      }
    }
    if (JoinSum(i, norm)) return;
    Stage stage;
    stage.input = Where(node.inputs[0]);
    stage.scale = norm.scale;
    stage.offset = norm.offset;
    stage.output = i;
    AddStage(std::move(stage));
  }

  // A batch norm of a sum is computed while the sum is written.
  bool JoinSum(int i, const Affine& norm) {
    const int input = graph_.node(i).inputs[0];
    const auto sum = by_output_.find(Where(input));
    // A sum that nothing else reads may yet vanish with its norm in a linear layer.
    if (sum == by_output_.end() || UsedOnce(input)) return false;
    Stage& stage = *sum->second->stage;
    if (!stage.residual || stage.next || stage.activation != Activation::kNone) return false;
    stage.next = norm;
    stage.next_output = i;
    return true;
  }

  void VisitActivation(int i) {
    const Node& node = graph_.node(i);
    Activation activation = *ActivationOf(node.op);
    at::Tensor slope;
    if (activation == Activation::kPrelu) slope = state_.Of(node)[0].detach().clone();
    // Behind tokens' linear layers channels are last, too.
    if (const auto place = OwnStage(node.inputs[0])) {
      Stage& stage = *(*place)->stage;
      if (stage.activation == Activation::kNone && !stage.next && node.shape.size() != 2) {
        stage.activation = activation;
        stage.slope = slope;
        Extend(*place, i);
        return;
      }
    }
    AddNode(i);
  }

  void VisitAdd(int i) {
    const Node& node = graph_.node(i);
    for (const int side : {0, 1}) {
      const int own = node.inputs[static_cast<std::size_t>(side)];
      const int other = node.inputs[static_cast<std::size_t>(1 - side)];
      const auto place = OwnStage(own);
      if (!place || own == other || node.shape.size() == 2) continue;
      Stage& stage = *(*place)->stage;
      if (stage.residual || stage.next || stage.activation != Activation::kNone) continue;
      stage.residual = Where(other);
      // Only now is everything there that it reads.
      stages_.splice(stages_.end(), stages_, *place);
      Extend(*place, i);
      return;
    }
    AddNode(i);
  }

  void Emit(std::vector<int> inputs, InferencePlan::Compute compute) {
    plan_.steps_.push_back({std::move(inputs), std::move(compute)});
  }

  void EmitNode(int i) {
    const Node& node = graph_.node(i);
    std::vector<int> inputs;
    for (const int input : node.inputs) inputs.push_back(Where(input));
    if (flattened_.contains(i)) {
      Emit(inputs, [i, from = inputs[0]](std::vector<at::Tensor>& values) {
        const at::Tensor rows = AsRows(values[static_cast<std::size_t>(from)]);
        values[static_cast<std::size_t>(i)] =
            rows.permute({0, 2, 3, 1}).reshape({rows.size(0), -1});
      });
      return;
    }
    std::vector<at::Tensor> parameters;
    for (const at::Tensor& parameter : state_.Of(node)) {
      parameters.push_back(parameter.detach().clone());
    }
    Emit(inputs, [this_graph = &graph_, i, inputs, parameters](std::vector<at::Tensor>& values) {
      std::vector<at::Tensor> read;
      for (const int input : inputs) read.push_back(values[static_cast<std::size_t>(input)]);
      values[static_cast<std::size_t>(i)] = ComputeNode(*this_graph, i, read, parameters, {});
    });
  }

  void EmitStage(const Stage& stage) {
    std::vector<int> inputs = {stage.input};
    if (stage.residual) inputs.push_back(*stage.residual);
    const bool relu_in_conv = stage.product && graph_.node(*stage.product).op == Op::kConv &&
                              stage.activation == Activation::kRelu && !stage.residual &&
                              !IsDepthwise(graph_, *stage.product);
    Affine pass = {{}, {}, stage.activation, stage.slope};
    std::function<at::Tensor(const at::Tensor&)> product;
    if (!stage.product) {
      pass.scale = stage.scale;
      pass.offset = stage.offset;
    } else if (graph_.node(*stage.product).op == Op::kLinear) {
      product = Linear(stage);
    } else if (IsDepthwise(graph_, *stage.product)) {
      product = Depthwise(stage);
      pass.offset = stage.offset;
    } else {
      product = Conv(stage, relu_in_conv);
    }
    const bool needs_pass = !stage.product || pass.offset.defined() || stage.residual ||
                            (pass.activation != Activation::kNone && !relu_in_conv);
    const bool plain_sum = !pass.offset.defined() && !pass.scale.defined();
    const std::int64_t channels = graph_.node(stage.output).shape[0];
    const auto vector = at::TensorOptions(ComputeDevice()).dtype(at::kFloat);
    if (!pass.scale.defined()) pass.scale = at::ones({channels}, vector);
    if (!pass.offset.defined()) pass.offset = at::zeros({channels}, vector);
    Emit(inputs, [stage_input = stage.input, residual = stage.residual, next = stage.next,
                  next_output = stage.next_output, output = stage.output, product, pass, plain_sum,
                  needs_pass](std::vector<at::Tensor>& values) {
      at::Tensor x = values[static_cast<std::size_t>(stage_input)];
      if (product) x = product(x);
      const at::Tensor other =
          residual ? values[static_cast<std::size_t>(*residual)] : at::Tensor();
      if (next && plain_sum) {
        values[static_cast<std::size_t>(next_output)] = SumThenAffine(*next, x, other);
      } else if (needs_pass) {
        x = ApplyAffine(pass, x, other, /*in_place=*/static_cast<bool>(product));
        if (next) {
          values[static_cast<std::size_t>(next_output)] = ApplyAffine(*next, x, {}, false);
        }
      }
      values[static_cast<std::size_t>(output)] = x;
    });
  }

  // The product's weight with what was folded into its outputs; float32.
  at::Tensor FoldedWeight(const Stage& stage) const {
    at::Tensor weight = state_.Of(graph_.node(*stage.product))[0].detach().clone();
    if (!stage.scale.defined()) return weight;
    std::vector<std::int64_t> by_output(static_cast<std::size_t>(weight.dim()), 1);
    by_output[0] = -1;
    return weight * stage.scale.view(by_output);
  }

  std::function<at::Tensor(const at::Tensor&)> Conv(const Stage& stage, bool relu) const {
    const Node& node = graph_.node(*stage.product);
    const at::Tensor weight =
        FoldedWeight(stage).to(options_.precision).contiguous(torch::MemoryFormat::ChannelsLast);
    const at::Tensor bias =
        stage.offset.defined() ? stage.offset.to(options_.precision) : at::Tensor();
    return
        [packed = PackedConv(node, weight, bias, graph_.node(node.inputs[0]).shape, options_.batch,
                             relu)](const at::Tensor& x) { return packed(AsRows(x)); };
  }

  std::function<at::Tensor(const at::Tensor&)> Depthwise(const Stage& stage) const {
    const DepthwiseShape shape = DepthwiseShapeOf(graph_, *stage.product);
    return [shape, taps = ToTaps(shape, FoldedWeight(stage))](const at::Tensor& x) {
      return DepthwiseForward(shape, AsRows(x), taps);
    };
  }

  std::function<at::Tensor(const at::Tensor&)> Linear(const Stage& stage) const {
    at::Tensor weight = FoldedWeight(stage);
    at::Tensor bias = stage.offset;
    const std::int64_t channels = stage.flattened_map[0];
    if (channels > 0) {
      // Columns [c, hw]: input map's affine in, then in the order in which the map lies, [hw, c].
      weight = weight.view({weight.size(0), channels, stage.flattened_map[1]});
      if (stage.input_scale.defined()) {
        const at::Tensor from_offset = weight.sum(2).matmul(stage.input_offset);
        bias = bias.defined() ? bias + (from_offset) : from_offset;
        weight = weight * stage.input_scale.view({1, -1, 1});
      }
      weight = weight.transpose(1, 2).reshape({weight.size(0), -1});
    }
    weight = weight.to(options_.precision).contiguous();
    if (bias.defined()) bias = bias.to(options_.precision);
    return [weight, bias](const at::Tensor& x) {
      return at::linear(x.to(weight.scalar_type()), weight,
                        bias.defined() ? std::optional<at::Tensor>(bias) : std::nullopt);
    };
  }

  const Graph& graph_;
  const NetworkState& state_;
  const InferenceOptions& options_;
  InferencePlan& plan_;
  std::vector<int> uses_;
  std::vector<int> where_;  // the node under whose index a node's value lies
  std::list<Item> stages_;
  std::map<int, Place> by_output_;
  std::map<int, int> flattened_;  // kFlatten nodes whose maps stay channels-last, and those maps
};

InferencePlan::InferencePlan(const Graph& graph, const NetworkState& state,
                             const InferenceOptions& options)
    : precision_(options.precision) {
  const torch::NoGradGuard no_grad;
  InferenceBuilder(graph, state, options, *this).Build();
}

at::Tensor InferencePlan::Run(const at::Tensor& images) {
  const torch::NoGradGuard no_grad;
  std::vector<int> uses = uses_;
  values_[0] = images.to(precision_).contiguous(torch::MemoryFormat::ChannelsLast);
  for (const Step& step : steps_) {
    step.compute(values_);
    for (const int input : step.inputs) {
      if (--uses[static_cast<std::size_t>(input)] == 0) {
        values_[static_cast<std::size_t>(input)].reset();
      }
    }
  }
  const at::Tensor embeddings = values_[static_cast<std::size_t>(output_)].to(torch::kFloat32);
  for (at::Tensor& value : values_) value.reset();
  return embeddings;
}

}  // namespace fr
