#pragma once
// The inner loops of optimizers and moving averages: one pass over memory each, compiled for every
// instruction set (worker/simd.h). No LibTorch here. Arrays do not overlap.

#include <cstdint>

namespace fr {

// With G = scale g + decay w:
//   v = momentum v + gain G;  w -= by_momentum v + by_gradient G;  g = 0
struct MomentumRule {
  float scale = 1;
  float decay = 0;
  float momentum = 0;
  float gain = 1;
  float by_momentum = 0;
  float by_gradient = 0;
};
void UpdateByMomentum(float* w, float* g, float* v, std::int64_t size, const MomentumRule& rule);

// With G = scale g:
//   m = beta1 m + rest1 G;  v = beta2 v + rest2 G^2
//   w = keep w - rate m / (sqrt(v) root + epsilon);  g = 0
struct AdamRule {
  float scale = 1;
  float keep = 1;
  float beta1 = 0;
  float rest1 = 1;  // 1 - beta1, which float32 would not have to seven digits
  float beta2 = 0;
  float rest2 = 1;  // 1 - beta2
  float rate = 0;
  float root = 1;
  float epsilon = 0;
};
void UpdateByAdam(float* w, float* g, float* m, float* v, std::int64_t size, const AdamRule& rule);

// average += share (w - average)
void MoveTowards(float* average, const float* w, std::int64_t size, float share);

// In float64.
double SumOfSquares(const float* x, std::int64_t size);

}  // namespace fr
