#include "worker/optim/lars.h"

#include <cmath>

#include <torch/torch.h>

#include "worker/optim/flat_pieces.h"
#include "worker/optim/updates.h"

namespace fr {
namespace {

class Lars final : public Optimizer {
 public:
  Lars(const OptimizerSpec& spec, const FlatParameters& parameters)
      : momentum_(spec.momentum()),
        trust_coefficient_(spec.trust_coefficient()),
        decays_(WeightDecays(spec, parameters)),
        pieces_(parameters.entries()),
        velocity_(at::zeros_like(parameters.values())) {
    for (const FlatParameters::Entry& entry : parameters.entries()) {
      adapts_.push_back(entry.sizes.size() > 1);
    }
  }

  void Step(FlatParameters& parameters, const StepInputs& inputs) override {
    const std::vector<double> ratios = TrustRatios(parameters, inputs.gradient_scale);
    MomentumRule common;
    common.scale = static_cast<float>(inputs.gradient_scale);
    common.momentum = static_cast<float>(momentum_);
    common.by_momentum = 1;
    auto* w = parameters.values().mutable_data_ptr<float>();
    auto* g = parameters.gradients().mutable_data_ptr<float>();
    auto* v = velocity_.mutable_data_ptr<float>();
    pieces_.ForEach([&](std::size_t i) {
      const auto& [begin, end, parameter] = pieces_[i];
      MomentumRule rule = common;
      rule.decay = static_cast<float>(decays_[parameter]);
      rule.gain = static_cast<float>(inputs.lr * ratios[parameter]);
      UpdateByMomentum(w + begin, g + begin, v + begin, end - begin, rule);
    });
  }

  std::vector<std::pair<std::string, at::Tensor>> State() override {
    return {{"momentum", velocity_}};
  }

 private:
  // By parameter.
  std::vector<double> TrustRatios(FlatParameters& parameters, double gradient_scale) const {
    struct Squares {
      double weight = 0;
      double gradient = 0;
    };
    const auto* w = parameters.values().const_data_ptr<float>();
    const auto* g = parameters.gradients().const_data_ptr<float>();
    std::vector<Squares> by_piece(pieces_.size());
    pieces_.ForEach([&](std::size_t i) {
      const auto& [begin, end, parameter] = pieces_[i];
      if (!adapts_[parameter]) return;
      by_piece[i] = {SumOfSquares(w + begin, end - begin), SumOfSquares(g + begin, end - begin)};
    });
    std::vector<Squares> squares(decays_.size());
    for (std::size_t i = 0; i < by_piece.size(); ++i) {
      squares[pieces_[i].parameter].weight += by_piece[i].weight;
      squares[pieces_[i].parameter].gradient += by_piece[i].gradient;
    }
    std::vector<double> ratios(decays_.size(), 1.0);
    for (std::size_t p = 0; p < ratios.size(); ++p) {
      if (!adapts_[p]) continue;
      ratios[p] = TrustRatio(trust_coefficient_, std::sqrt(squares[p].weight),
                             gradient_scale * std::sqrt(squares[p].gradient), decays_[p]);
    }
    return ratios;
  }

  double momentum_;
  double trust_coefficient_;
  std::vector<double> decays_;
  std::vector<std::uint8_t> adapts_;  // by parameter
  FlatPieces pieces_;
  at::Tensor velocity_;
};

}  // namespace

double TrustRatio(double trust_coefficient, double weight_norm, double gradient_norm,
                  double decay) {
  if (weight_norm == 0 || gradient_norm == 0) return 1;
  return trust_coefficient * weight_norm / (gradient_norm + decay * weight_norm);
}

std::unique_ptr<Optimizer> MakeLars(const OptimizerSpec& spec, const FlatParameters& parameters) {
  return std::make_unique<Lars>(spec, parameters);
}

}  // namespace fr
