#include "worker/optim/sgd.h"

#include <torch/torch.h>

#include "worker/optim/flat_pieces.h"
#include "worker/optim/updates.h"

namespace fr {
namespace {

class Sgd final : public Optimizer {
 public:
  Sgd(const OptimizerSpec& spec, const FlatParameters& parameters)
      : momentum_(spec.momentum()),
        nesterov_(spec.nesterov()),
        decays_(WeightDecays(spec, parameters)),
        pieces_(parameters.entries()),
        velocity_(at::zeros_like(parameters.values())) {}

  void Step(FlatParameters& parameters, const StepInputs& inputs) override {
    MomentumRule common;
    common.scale = static_cast<float>(inputs.gradient_scale);
    common.momentum = static_cast<float>(momentum_);
    common.by_momentum = static_cast<float>(nesterov_ ? inputs.lr * momentum_ : inputs.lr);
    common.by_gradient = static_cast<float>(nesterov_ ? inputs.lr : 0.0);
    auto* w = parameters.values().mutable_data_ptr<float>();
    auto* g = parameters.gradients().mutable_data_ptr<float>();
    auto* v = velocity_.mutable_data_ptr<float>();
    pieces_.ForEach([&](std::size_t i) {
      const auto& [begin, end, parameter] = pieces_[i];
      MomentumRule rule = common;
      rule.decay = static_cast<float>(decays_[parameter]);
      UpdateByMomentum(w + begin, g + begin, v + begin, end - begin, rule);
    });
  }

  std::vector<std::pair<std::string, at::Tensor>> State() override {
    return {{"momentum", velocity_}};
  }

 private:
  double momentum_;
  bool nesterov_;
  std::vector<double> decays_;
  FlatPieces pieces_;
  at::Tensor velocity_;
};

}  // namespace

std::unique_ptr<Optimizer> MakeSgd(const OptimizerSpec& spec, const FlatParameters& parameters) {
  return std::make_unique<Sgd>(spec, parameters);
}

}  // namespace fr
