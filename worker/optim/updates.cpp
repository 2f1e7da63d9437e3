#include "worker/optim/updates.h"

#include <cmath>

#include "worker/simd.h"

namespace fr {

FR_SIMD_CLONES
void UpdateByMomentum(float* w, float* g, float* v, std::int64_t size, const MomentumRule& rule) {
  const MomentumRule r = rule;
#pragma omp simd
  for (std::int64_t i = 0; i < size; ++i) {
    const float gradient = r.scale * g[i] + r.decay * w[i];
    v[i] = r.momentum * v[i] + r.gain * gradient;
    w[i] -= r.by_momentum * v[i] + r.by_gradient * gradient;
    g[i] = 0;
  }
}

FR_SIMD_CLONES
void UpdateByAdam(float* w, float* g, float* m, float* v, std::int64_t size, const AdamRule& rule) {
  const AdamRule r = rule;
#pragma omp simd
  for (std::int64_t i = 0; i < size; ++i) {
    const float gradient = r.scale * g[i];
    m[i] = r.beta1 * m[i] + r.rest1 * gradient;
    v[i] = r.beta2 * v[i] + r.rest2 * gradient * gradient;
    w[i] = r.keep * w[i] - r.rate * m[i] / (std::sqrt(v[i]) * r.root + r.epsilon);
    g[i] = 0;
  }
}

FR_SIMD_CLONES
void MoveTowards(float* average, const float* w, std::int64_t size, float share) {
#pragma omp simd
  for (std::int64_t i = 0; i < size; ++i) average[i] += share * (w[i] - average[i]);
}

FR_SIMD_CLONES
double SumOfSquares(const float* x, std::int64_t size) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < size; ++i) {
    const double value = x[i];
    sum += value * value;
  }
  return sum;
}

}  // namespace fr
