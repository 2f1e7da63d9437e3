#include "worker/optim/optimizer.h"

#include <algorithm>
#include <cmath>

#include <ATen/Parallel.h>

#include "worker/gpu/gpu.h"
#include "worker/gpu/gpu_kernels.h"
#include "worker/optim/adamw.h"
#include "worker/optim/lars.h"
#include "worker/optim/sgd.h"
#include "worker/optim/updates.h"

namespace fr {
namespace {

constexpr std::int64_t kBlockElements = 16 * 1024;

}  // namespace

std::unique_ptr<Optimizer> MakeOptimizer(const OptimizerSpec& spec,
                                         const FlatParameters& parameters) {
  switch (spec.type()) {
    case OptimizerType::sgd:
      return MakeSgd(spec, parameters);
    case OptimizerType::adamw:
      return MakeAdamW(spec, parameters);
    case OptimizerType::lars:
      return MakeLars(spec, parameters);
  }
  return MakeSgd(spec, parameters);
}

std::vector<double> WeightDecays(const OptimizerSpec& spec, const FlatParameters& parameters) {
  std::vector<double> decays;
  for (const FlatParameters::Entry& entry : parameters.entries()) {
    const bool decays_always = entry.sizes.size() > 1;
    decays.push_back(decays_always || spec.decay_norms_and_biases() ? spec.weight_decay() : 0.0);
  }
  return decays;
}

double GradientNorm(const at::Tensor& flat) {
  if (const Gpu* gpu = GpuOf(flat)) {
    at::Tensor parts = at::empty({kSquareParts}, flat.options().dtype(at::kDouble));
    gpu->kernels().sum_squares(flat.const_data_ptr<float>(), flat.numel(),
                               parts.mutable_data_ptr<double>(), gpu->stream());
    return std::sqrt(parts.sum().item<double>());
  }
  const float* values = flat.const_data_ptr<float>();
  const std::int64_t size = flat.numel();
  const std::int64_t blocks = (size + kBlockElements - 1) / kBlockElements;
  std::vector<double> squares(static_cast<std::size_t>(blocks));
  at::parallel_for(0, blocks, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t block = first; block < last; ++block) {
      const std::int64_t begin = block * kBlockElements;
      squares[static_cast<std::size_t>(block)] =
          SumOfSquares(values + begin, std::min(kBlockElements, size - begin));
    }
  });
  double sum = 0;
  for (const double square : squares) sum += square;
  return std::sqrt(sum);
}

double ClipFactor(double norm, double clip_norm) {
  return clip_norm > 0 ? std::min(1.0, clip_norm / (norm + 1e-6)) : 1.0;
}

}  // namespace fr
