#include "worker/backbones/run/depthwise.h"
#include "worker/backbones/run/rows.h"
#include "worker/backbones/run/steps.h"

namespace fr {
namespace {

// By LibTorch's convolution.
class ConvStep : public Step {
 public:
  ConvStep(const Graph& graph, int node, const NetworkState& state)
      : Step(graph.node(node).inputs, node, graph.node(node).block),
        node_(graph.node(node)),
        parameters_(state.Of(node_)) {}

  void Forward(Tape& tape, const PassMode& mode) override {
    x_ = AsRows(tape.value(inputs()[0]));
    if (mode.again && mode.result_unused) return;
    const Window& w = node_.window;
    c10::optional<at::Tensor> bias;
    if (node_.has_bias()) bias = parameters_[1].detach().to(x_.scalar_type());
    tape.value(output()) = at::convolution(x_, Weight(), bias, w.stride, w.padding, {1, 1},
                                           /*transposed=*/false, {0, 0}, node_.groups);
  }

  void Backward(Tape& tape) override {
    const at::Tensor dy = AsRows(tape.TakeGradient(output()));
    const Window& w = node_.window;
    auto [dx, dw, db] = at::convolution_backward(
        dy, x_, Weight(), at::OptionalIntArrayRef(c10::IntArrayRef{node_.shape[0]}), w.stride,
        w.padding, {1, 1}, /*transposed=*/false, {0, 0}, node_.groups,
        {NeedsGradient(inputs()[0]), true, node_.has_bias()});
    parameters_[0].mutable_grad().add_(dw);
    if (node_.has_bias()) parameters_[1].mutable_grad().add_(db);
    if (dx.defined()) tape.AddGradient(inputs()[0], std::move(dx));
    Forget();
  }

  void Forget() override {
    x_.reset();
    weight_.reset();
  }

 private:
  // In the activations' type; converted once for both passes.
  const at::Tensor& Weight() {
    if (!weight_.defined()) weight_ = parameters_[0].detach().to(x_.scalar_type());
    return weight_;
  }

  const Node& node_;
  std::vector<at::Tensor> parameters_;
  at::Tensor x_;
  at::Tensor weight_;
};

// A kernel of one pixel is a matrix product over pixels as they lie, which spares oneDNN's
// convolution its changes of layout: a third of the backward pass.
class PointwiseStep : public Step {
 public:
  PointwiseStep(const Graph& graph, int node, const NetworkState& state)
      : Step(graph.node(node).inputs, node, graph.node(node).block),
        parameter_(state.Of(graph.node(node))[0]) {}

  static bool Fits(const Node& node) {
    const Window& w = node.window;
    const std::array<std::int64_t, 2> one = {1, 1};
    const std::array<std::int64_t, 2> none = {0, 0};
    return w.kernel == one && w.stride == one && w.padding == none && node.groups == 1 &&
           !node.has_bias();
  }

  void Forward(Tape& tape, const PassMode& mode) override {
    x_ = AsRows(tape.value(inputs()[0]));
    if (mode.again && mode.result_unused) return;
    tape.value(output()) = Map(at::mm(Pixels(x_), Weight().t()));
  }

  void Backward(Tape& tape) override {
    const at::Tensor dy = Pixels(AsRows(tape.TakeGradient(output())));
    at::Tensor dw = parameter_.mutable_grad().view({parameter_.size(0), parameter_.size(1)});
    if (x_.scalar_type() == torch::kFloat32) {
      dw.addmm_(dy.t(), Pixels(x_));
    } else {
      dw.add_(at::mm(dy.t(), Pixels(x_)));
    }
    if (NeedsGradient(inputs()[0])) tape.AddGradient(inputs()[0], Map(at::mm(dy, Weight())));
    Forget();
  }

  void Forget() override {
    x_.reset();
    weight_.reset();
  }

 private:
  // [n, c, h, w] channels-last as [n h w, c], and back; views.
  static at::Tensor Pixels(const at::Tensor& x) {
    return x.permute({0, 2, 3, 1}).view({-1, x.size(1)});
  }
  at::Tensor Map(const at::Tensor& pixels) const {
    return pixels.view({x_.size(0), x_.size(2), x_.size(3), pixels.size(1)}).permute({0, 3, 1, 2});
  }

  // [out, in] in the activations' type; converted once for both passes.
  const at::Tensor& Weight() {
    if (!weight_.defined()) {
      weight_ =
          parameter_.detach().view({parameter_.size(0), parameter_.size(1)}).to(x_.scalar_type());
    }
    return weight_;
  }

  at::Tensor parameter_;
  at::Tensor x_;
  at::Tensor weight_;
};

// Every channel by itself, or with its neighbour, by our own kernels.
class DepthwiseStep : public Step {
 public:
  DepthwiseStep(const Graph& graph, int node, const NetworkState& state)
      : Step(graph.node(node).inputs, node, graph.node(node).block),
        weight_(state.Of(graph.node(node))[0]),
        shape_(DepthwiseShapeOf(graph, node)) {}

  void Forward(Tape& tape, const PassMode& mode) override {
    x_ = AsRows(tape.value(inputs()[0]));
    if (mode.again && mode.result_unused) return;
    tape.value(output()) = DepthwiseForward(shape_, x_, ToTaps(shape_, weight_.detach()));
  }

  void Backward(Tape& tape) override {
    const at::Tensor dy = AsRows(tape.TakeGradient(output()));
    weight_.mutable_grad().add_(FromTaps(shape_, DepthwiseBackwardWeight(shape_, x_, dy)));
    if (NeedsGradient(inputs()[0])) {
      tape.AddGradient(inputs()[0],
                       DepthwiseBackwardInput(shape_, x_, dy, ToTaps(shape_, weight_.detach())));
    }
    x_.reset();
  }

  void Forget() override { x_.reset(); }

 private:
  at::Tensor weight_;
  DepthwiseShape shape_;
  at::Tensor x_;
};

}  // namespace

std::unique_ptr<Step> MakeConvStep(const Graph& graph, int node, const NetworkState& state) {
  if (IsDepthwise(graph, node)) {
    return std::make_unique<DepthwiseStep>(graph, node, state);
  }
  if (PointwiseStep::Fits(graph.node(node))) {
    return std::make_unique<PointwiseStep>(graph, node, state);
  }
  return std::make_unique<ConvStep>(graph, node, state);
}

}  // namespace fr
