#pragma once
// What SGD and LARS have in common: one velocity a weight, and a pass that moves both.

#include <vector>

#include <ATen/core/Tensor.h>

#include "worker/optim/flat_pieces.h"
#include "worker/optim/optimizer.h"
#include "worker/optim/updates.h"

namespace fr {

class MomentumPass {
 public:
  MomentumPass(const OptimizerSpec& spec, const FlatParameters& parameters);

  // UpdateByMomentum of every parameter, by `common` with the parameter's weight decay, its
  // momentum, and, where there are `gains` (by parameter), its gain.
  void Run(FlatParameters& parameters, MomentumRule common, const std::vector<double>& gains = {});

  const FlatPieces& pieces() const { return pieces_; }
  const std::vector<double>& decays() const { return decays_; }  // by parameter
  // Optimizer::State: "momentum".
  std::vector<std::pair<std::string, at::Tensor>> State() { return {{"momentum", velocity_}}; }

 private:
  float momentum_;
  std::vector<double> decays_;
  at::Tensor decays_on_gpu_;  // where the parameters are there
  FlatPieces pieces_;
  at::Tensor velocity_;  // [n] float32
};

}  // namespace fr
