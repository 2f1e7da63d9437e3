// Steps without kernels of their own.

#include "worker/backbones/run/steps.h"
#include "worker/backbones/run/weighted_step.h"

namespace fr {
namespace {

class LinearStep : public WeightedStep {
 public:
  using WeightedStep::WeightedStep;

  void Forward(Tape& tape, const PassMode& mode) override {
    x_ = tape.value(inputs()[0]);
    if (mode.again && mode.result_unused) return;
    tape.value(output()) = at::linear(x_, Weight(), Bias());
  }

  void Backward(Tape& tape) override {
    const at::Tensor dy = tape.TakeGradient(output());
    const at::Tensor dy_rows = dy.reshape({-1, dy.size(-1)});
    AddProductGradient(dy_rows, x_.reshape({-1, x_.size(-1)}));
    if (has_bias()) AddBiasGradient(dy_rows.sum(0, false, torch::kFloat32));
    if (NeedsGradient(inputs()[0])) {
      tape.AddGradient(inputs()[0], at::mm(dy_rows, Weight()).view(x_.sizes()));
    }
    Forget();
  }
};

class AddStep : public Step {
 public:
  AddStep(const Graph& graph, int node)
      : Step(graph.node(node).inputs, node, graph.node(node).block),
        factor_(graph.node(node).factor) {}

  void Forward(Tape& tape, const PassMode& mode) override {
    if (mode.again && mode.result_unused) return;
    tape.value(output()) = at::add(tape.value(inputs()[0]), tape.value(inputs()[1]), factor_);
  }

  void Backward(Tape& tape) override {
    at::Tensor dy = tape.TakeGradient(output());
    tape.AddGradient(inputs()[0], dy);
    tape.AddGradient(inputs()[1], factor_ == 1 ? dy : dy * factor_);
  }

  void Forget() override {}

 private:
  double factor_;
};

class AutogradStep : public Step {
 public:
  AutogradStep(const Graph& graph, int node, const NetworkState& state)
      : Step(graph.node(node).inputs, node, graph.node(node).block),
        graph_(graph),
        parameters_(state.Of(graph.node(node))) {}

  void Forward(Tape& tape, const PassMode& mode) override {
    const torch::AutoGradMode with_gradients(true);
    values_.clear();
    for (const int input : inputs()) {
      at::Tensor& value = tape.value(input);
      // The second input of kRestoreTokens is there for its name alone, and may be gone.
      values_.push_back(value.defined() ? value.detach() : at::Tensor());
      if (value.defined() && NeedsGradient(input)) values_.back().set_requires_grad(true);
    }
    result_ = ComputeNode(graph_, output(), values_, parameters_, mode.compute);
    tape.value(output()) = result_.detach();
  }

  void Backward(Tape& tape) override {
    const at::Tensor dy = tape.TakeGradient(output());
    if (result_.requires_grad()) {
      torch::autograd::backward({result_}, {dy.to(result_.scalar_type())});
    }
    for (std::size_t i = 0; i < values_.size(); ++i) {
      if (values_[i].defined() && values_[i].grad().defined()) {
        tape.AddGradient(inputs()[i], values_[i].grad());
      }
    }
    Forget();
  }

  void Forget() override {
    values_.clear();
    result_.reset();
  }

 private:
  const Graph& graph_;
  std::vector<at::Tensor> parameters_;
  std::vector<at::Tensor> values_;
  at::Tensor result_;
};

}  // namespace

std::unique_ptr<Step> MakeLinearStep(const Graph& graph, int node, const NetworkState& state) {
  return std::make_unique<LinearStep>(graph, node, state);
}

std::unique_ptr<Step> MakeAddStep(const Graph& graph, int node) {
  return std::make_unique<AddStep>(graph, node);
}

std::unique_ptr<Step> MakeAutogradStep(const Graph& graph, int node, const NetworkState& state) {
  return std::make_unique<AutogradStep>(graph, node, state);
}

}  // namespace fr
