#pragma once
// Layer-wise adaptive rate scaling (You, Gitman and Ginsburg 2017, arXiv:1708.03888, algorithm 1),
// for batches of many thousand images:
//   G = scale g;  r = trust |w| / (|G| + decay |w|), of each parameter tensor by itself
//   v = momentum v + lr r (G + decay w)
//   w -= v
// The learning rate is within v, as in the paper. Parameters of one dimension (biases, norms'
// factors) have r = 1: their length says nothing about how far they may move.

#include <memory>

#include "worker/optim/optimizer.h"

namespace fr {

// r, the trust ratio, from the norms of weight and gradient. 1 where either is 0: there is nothing
// to be in proportion to, and weights that are all zero would never move.
double TrustRatio(double trust_coefficient, double weight_norm, double gradient_norm, double decay);

// State: "momentum" (v).
std::unique_ptr<Optimizer> MakeLars(const OptimizerSpec& spec, const FlatParameters& parameters);

}  // namespace fr
