#include "worker/optim/lars.h"

#include <cmath>

#include <torch/torch.h>

#include "worker/gpu/gpu.h"
#include "worker/gpu/gpu_kernels.h"
#include "worker/optim/momentum_pass.h"

namespace fr {
namespace {

class Lars final : public Optimizer {
 public:
  Lars(const OptimizerSpec& spec, const FlatParameters& parameters)
      : trust_coefficient_(spec.trust_coefficient()), pass_(spec, parameters) {
    for (const FlatParameters::Entry& entry : parameters.entries()) {
      adapts_.push_back(entry.sizes.size() > 1);
    }
  }

  void Step(FlatParameters& parameters, const StepInputs& inputs) override {
    std::vector<double> gains = TrustRatios(parameters, inputs.gradient_scale);
    for (double& gain : gains) gain *= inputs.lr;
    MomentumRule rule;
    rule.scale = static_cast<float>(inputs.gradient_scale);
    rule.by_momentum = 1;
    pass_.Run(parameters, rule, gains);
  }

  std::vector<std::pair<std::string, at::Tensor>> State() override { return pass_.State(); }

 private:
  // By parameter.
  std::vector<double> TrustRatios(FlatParameters& parameters, double gradient_scale) const {
    struct Squares {
      double weight = 0;
      double gradient = 0;
    };
    const FlatPieces& pieces = pass_.pieces();
    const std::vector<double>& decays = pass_.decays();
    const auto* w = parameters.values().const_data_ptr<float>();
    const auto* g = parameters.gradients().const_data_ptr<float>();
    std::vector<Squares> by_piece(pieces.size());
    if (const Gpu* gpu = GpuOf(parameters.values())) {
      at::Tensor sums = at::empty({static_cast<std::int64_t>(pieces.size()), 2},
                                  parameters.values().options().dtype(at::kDouble));
      gpu->kernels().piece_squares(pieces.OnGpu(), w, g, sums.mutable_data_ptr<double>(),
                                   gpu->stream());
      sums = sums.cpu();
      const double* sum = sums.const_data_ptr<double>();
      for (std::size_t i = 0; i < pieces.size(); ++i) by_piece[i] = {sum[2 * i], sum[2 * i + 1]};
    } else {
      pieces.ForEach([&](std::size_t i) {
        const auto& [begin, end, parameter] = pieces[i];
        if (!adapts_[parameter]) return;
        by_piece[i] = {SumOfSquares(w + begin, end - begin), SumOfSquares(g + begin, end - begin)};
      });
    }
    std::vector<Squares> squares(decays.size());
    for (std::size_t i = 0; i < by_piece.size(); ++i) {
      squares[pieces[i].parameter].weight += by_piece[i].weight;
      squares[pieces[i].parameter].gradient += by_piece[i].gradient;
    }
    std::vector<double> ratios(decays.size(), 1.0);
    for (std::size_t p = 0; p < ratios.size(); ++p) {
      if (!adapts_[p]) continue;
      ratios[p] = TrustRatio(trust_coefficient_, std::sqrt(squares[p].weight),
                             gradient_scale * std::sqrt(squares[p].gradient), decays[p]);
    }
    return ratios;
  }

  double trust_coefficient_;
  std::vector<std::uint8_t> adapts_;  // by parameter
  MomentumPass pass_;
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
