#pragma once
// What a step makes of the backbone's gradients.

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "proto/job.pb.h"
#include "worker/optim/flat_parameters.h"

namespace fr {

struct StepInputs {
  double lr = 0;
  double gradient_scale = 1;  // ClipFactor: gradients are multiplied by it first
  std::int64_t step = 0;      // of the run, from 0
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;

  // Moves the values by the gradients, and sets these to zero in the same pass. `parameters` are
  // those it was made for. Gradients that are not finite make values that are not: the caller looks
  // at GradientNorm first.
  virtual void Step(FlatParameters& parameters, const StepInputs& inputs) = 0;

  // Name and tensor [n] float32 of what it remembers, in the parameters' order: with the step's
  // number all that is needed to go on. Views: writing into them restores a checkpoint.
  virtual std::vector<std::pair<std::string, at::Tensor>> State() = 0;
};

// As `spec.type()` says: MakeSgd, MakeAdamW or MakeLars, whose headers have the formulas.
std::unique_ptr<Optimizer> MakeOptimizer(const OptimizerSpec& spec,
                                         const FlatParameters& parameters);

// The weight decay of each parameter: spec.weight_decay, or 0 for parameters of one dimension
// (biases, norms' factors, PReLU's slopes) if not spec.decay_norms_and_biases.
std::vector<double> WeightDecays(const OptimizerSpec& spec, const FlatParameters& parameters);

// The Euclidean norm of `flat` [n] float32, contiguous; summed in float64, the same bits for any
// number of threads. Not finite if and only if a value is not (float32's squares fit in float64).
double GradientNorm(const at::Tensor& flat);

// What a gradient of this norm is multiplied by: min(1, clip_norm / (norm + 1e-6)) as
// torch.nn.utils.clip_grad_norm_ does, or 1 if clip_norm is 0 (no clipping).
double ClipFactor(double norm, double clip_norm);

}  // namespace fr
