#include "worker/heads/row_update.h"

#include <cmath>

namespace fr {
namespace {

// w -= lr v, or with Nesterov's momentum w -= lr (G + momentum v).
RowUpdate Sgd(const HeadShardOptions& options, double lr) {
  RowUpdate update;
  update.kind = RowUpdate::Kind::kMomentum;
  update.decay = static_cast<float>(options.weight_decay);
  update.momentum = static_cast<float>(options.momentum);
  update.by_momentum = static_cast<float>(options.nesterov ? lr * options.momentum : lr);
  update.by_gradient = static_cast<float>(options.nesterov ? lr : 0.0);
  return update;
}

// The rate is within v.
RowUpdate Lars(const HeadShardOptions& options, double lr, double trust_ratio) {
  RowUpdate update;
  update.kind = RowUpdate::Kind::kMomentum;
  update.decay = static_cast<float>(options.weight_decay);
  update.momentum = static_cast<float>(options.momentum);
  update.gain = static_cast<float>(lr * trust_ratio);
  update.bias_gain = static_cast<float>(lr);
  update.by_momentum = 1;
  return update;
}

RowUpdate AdamW(const HeadShardOptions& options, double lr, double step) {
  RowUpdate update;
  update.kind = RowUpdate::Kind::kAdamW;
  update.lr = static_cast<float>(lr);
  update.decay = static_cast<float>(options.weight_decay);
  update.beta1 = static_cast<float>(options.beta1);
  update.rest1 = static_cast<float>(1 - options.beta1);
  update.beta2 = static_cast<float>(options.beta2);
  update.rest2 = static_cast<float>(1 - options.beta2);
  update.epsilon = static_cast<float>(options.epsilon);
  update.inverse_correction1 = static_cast<float>(1 / (1 - std::pow(options.beta1, step + 1)));
  update.inverse_correction2 = static_cast<float>(1 / (1 - std::pow(options.beta2, step + 1)));
  return update;
}

}  // namespace

RowUpdate MakeRowUpdate(const HeadShardOptions& options, double lr, double step,
                        double trust_ratio) {
  switch (options.optimizer) {
    case HeadOptimizer::kSgd:
      break;
    case HeadOptimizer::kAdamW:
      return AdamW(options, lr, step);
    case HeadOptimizer::kLars:
      return Lars(options, lr, trust_ratio);
  }
  return Sgd(options, lr);
}

}  // namespace fr
