#pragma once
// Stochastic gradient descent with momentum, as torch.optim.SGD without dampening:
//   G = scale g + decay w
//   v = momentum v + G
//   w -= lr v                    or, with Nesterov's momentum, w -= lr (G + momentum v)

#include <memory>

#include "worker/optim/optimizer.h"

namespace fr {

// State: "momentum" (v).
std::unique_ptr<Optimizer> MakeSgd(const OptimizerSpec& spec, const FlatParameters& parameters);

}  // namespace fr
