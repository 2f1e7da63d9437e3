#include "worker/optim/sgd.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include <ATen/Parallel.h>

#include "common/base/error.h"
#include "worker/simd.h"

namespace fr {
namespace {

constexpr std::int64_t kGrainElements = 64 * 1024;

FR_SIMD_CLONES
void Update(float* value, float* gradient, float* velocity, std::int64_t size, float scale,
            float lr, float momentum, float weight_decay) {
#pragma omp simd
  for (std::int64_t i = 0; i < size; ++i) {
    velocity[i] = momentum * velocity[i] + scale * gradient[i] + weight_decay * value[i];
    value[i] -= lr * velocity[i];
    gradient[i] = 0;
  }
}

}  // namespace

Sgd::Sgd(const SgdOptions& options, std::int64_t size)
    : options_(options), momentum_(at::zeros({size}, at::kFloat)) {}

double Sgd::Step(at::Tensor& values, at::Tensor& gradients, double lr) {
  const double norm = gradients.norm(2, at::kDouble).item<double>();
  if (!std::isfinite(norm)) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("the norm of the backbone's gradient is {}: the training diverged; "
                            "lower optimizer.lr or lengthen optimizer.schedule.warmup_steps",
                            norm));
  }
  const double scale =
      options_.clip_norm > 0 ? std::min(1.0, options_.clip_norm / (norm + 1e-6)) : 1.0;
  float* value = values.mutable_data_ptr<float>();
  float* gradient = gradients.mutable_data_ptr<float>();
  float* velocity = momentum_.mutable_data_ptr<float>();
  at::parallel_for(0, values.numel(), kGrainElements, [&](std::int64_t begin, std::int64_t end) {
    Update(value + begin, gradient + begin, velocity + begin, end - begin,
           static_cast<float>(scale), static_cast<float>(lr), static_cast<float>(options_.momentum),
           static_cast<float>(options_.weight_decay));
  });
  return norm;
}

}  // namespace fr
