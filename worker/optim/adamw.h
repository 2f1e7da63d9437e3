#pragma once
// Adam with decoupled weight decay (Loshchilov and Hutter, arXiv:1711.05101), as torch.optim.AdamW:
//   G = scale g;  t = step + 1
//   m = beta1 m + (1 - beta1) G;  v = beta2 v + (1 - beta2) G^2
//   w = w - lr decay w - lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon)

#include <memory>

#include "worker/optim/optimizer.h"

namespace fr {

// State: "first" (m) and "second" (v).
std::unique_ptr<Optimizer> MakeAdamW(const OptimizerSpec& spec, const FlatParameters& parameters);

}  // namespace fr
