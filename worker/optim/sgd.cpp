#include "worker/optim/sgd.h"

#include "worker/optim/momentum_pass.h"

namespace fr {
namespace {

class Sgd final : public Optimizer {
 public:
  Sgd(const OptimizerSpec& spec, const FlatParameters& parameters)
      : momentum_(spec.momentum()), nesterov_(spec.nesterov()), pass_(spec, parameters) {}

  void Step(FlatParameters& parameters, const StepInputs& inputs) override {
    MomentumRule rule;
    rule.scale = static_cast<float>(inputs.gradient_scale);
    rule.by_momentum = static_cast<float>(nesterov_ ? inputs.lr * momentum_ : inputs.lr);
    rule.by_gradient = static_cast<float>(nesterov_ ? inputs.lr : 0.0);
    pass_.Run(parameters, rule);
  }

  std::vector<std::pair<std::string, at::Tensor>> State() override { return pass_.State(); }

 private:
  double momentum_;
  bool nesterov_;
  MomentumPass pass_;
};

}  // namespace

std::unique_ptr<Optimizer> MakeSgd(const OptimizerSpec& spec, const FlatParameters& parameters) {
  return std::make_unique<Sgd>(spec, parameters);
}

}  // namespace fr
