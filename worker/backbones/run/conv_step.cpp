#include "worker/backbones/run/depthwise.h"
#include "worker/backbones/run/rows.h"
#include "worker/backbones/run/steps.h"
#include "worker/backbones/run/weighted_step.h"

namespace fr {
namespace {

// By LibTorch's convolution.
class ConvStep : public WeightedStep {
 public:
  ConvStep(const Graph& graph, int node, const NetworkState& state)
      : WeightedStep(graph, node, state), node_(graph.node(node)) {}

  void Forward(Tape& tape, const PassMode& mode) override {
    x_ = AsRows(tape.value(inputs()[0]));
    if (mode.again && mode.result_unused) return;
    const Window& w = node_.window;
    tape.value(output()) = at::convolution(x_, Weight(), Bias(), w.stride, w.padding, {1, 1},
                                           /*transposed=*/false, {0, 0}, node_.groups);
  }

  void Backward(Tape& tape) override {
    const at::Tensor dy = AsRows(tape.TakeGradient(output()));
    const Window& w = node_.window;
    auto [dx, dw, db] = at::convolution_backward(
        dy, x_, Weight(), at::OptionalIntArrayRef(c10::IntArrayRef{node_.shape[0]}), w.stride,
        w.padding, {1, 1}, /*transposed=*/false, {0, 0}, node_.groups,
        {NeedsGradient(inputs()[0]), true, has_bias()});
    AddWeightGradient(dw);
    if (has_bias()) AddBiasGradient(db);
    if (dx.defined()) tape.AddGradient(inputs()[0], std::move(dx));
    Forget();
  }

 private:
  const Node& node_;
};

// A kernel of one pixel is a matrix product over pixels as they lie, which spares oneDNN's
// convolution its changes of layout: a third of the backward pass.
class PointwiseStep : public WeightedStep {
 public:
  using WeightedStep::WeightedStep;

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
    tape.value(output()) = Map(at::mm(Pixels(x_), Matrix().t()));
  }

  void Backward(Tape& tape) override {
    const at::Tensor dy = Pixels(AsRows(tape.TakeGradient(output())));
    AddProductGradient(dy, Pixels(x_));
    if (NeedsGradient(inputs()[0])) tape.AddGradient(inputs()[0], Map(at::mm(dy, Matrix())));
    Forget();
  }

 private:
  // [n, c, h, w] channels-last as [n h w, c], and back; views.
  static at::Tensor Pixels(const at::Tensor& x) {
    return x.permute({0, 2, 3, 1}).view({-1, x.size(1)});
  }
  at::Tensor Map(const at::Tensor& pixels) const {
    return pixels.view({x_.size(0), x_.size(2), x_.size(3), pixels.size(1)}).permute({0, 3, 1, 2});
  }

  // [out, in]
  at::Tensor Matrix() { return Weight().view({Weight().size(0), Weight().size(1)}); }
};

// Every channel by itself, or with its neighbour, by our own kernels. These take float32 weights.
class DepthwiseStep : public WeightedStep {
 public:
  DepthwiseStep(const Graph& graph, int node, const NetworkState& state)
      : WeightedStep(graph, node, state), shape_(DepthwiseShapeOf(graph, node)) {}

  void Forward(Tape& tape, const PassMode& mode) override {
    x_ = AsRows(tape.value(inputs()[0]));
    if (mode.again && mode.result_unused) return;
    tape.value(output()) = DepthwiseForward(shape_, x_, Taps());
  }

  void Backward(Tape& tape) override {
    const at::Tensor dy = AsRows(tape.TakeGradient(output()));
    AddWeightGradient(FromTaps(shape_, DepthwiseBackwardWeight(shape_, x_, dy)));
    if (NeedsGradient(inputs()[0])) {
      tape.AddGradient(inputs()[0], DepthwiseBackwardInput(shape_, x_, dy, Taps()));
    }
    Forget();
  }

 private:
  at::Tensor Taps() const { return ToTaps(shape_, parameter().detach()); }

  DepthwiseShape shape_;
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
