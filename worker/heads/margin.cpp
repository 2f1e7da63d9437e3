#include "worker/heads/margin.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

namespace fr {
namespace {

constexpr double kLimit = 1 - 1e-7;

double Sine(double cosine) { return std::sqrt((1 - cosine) * (1 + cosine)); }

double Mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// Unbiased, as torch.std.
double Deviation(const std::vector<double>& values, double mean) {
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

double AnnealingLambda(const MarginOptions& options, double step) {
  return std::max(
      options.lambda_min,
      options.lambda_base * std::pow(1 + options.lambda_gamma * step, -options.lambda_power));
}

TargetLogit SphereFaceTarget(const MarginOptions& options, double z, double norm, double step) {
  const double cosine = norm > 0 ? std::clamp(z / norm, -kLimit, kLimit) : 0;
  const MarginValue margin = AngularMargin(cosine, options.m1, options.m2, options.m3);
  const double lambda = AnnealingLambda(options, step);
  const double psi = (lambda * cosine + margin.psi) / (1 + lambda);
  const double derivative = (lambda + margin.derivative) / (1 + lambda);
  TargetLogit target;
  target.logit = norm * psi;
  target.by_z = derivative;
  // z = |x| cos(theta) carries `derivative` cos(theta) of d (|x| psi) / d |x| = psi.
  target.by_norm = psi - derivative * cosine;
  return target;
}

// The running mean and deviation of the norms, as the authors' code has them: clipped norms, the
// newest batch with weight ada_ema.
void UpdateNormStatistics(const MarginOptions& options, const std::vector<double>& norms,
                          MarginState* state) {
  std::vector<double> safe = norms;
  for (double& norm : safe) norm = std::clamp(norm, 0.001, 100.0);
  const double mean = Mean(safe);
  state->norm_mean += options.ada_ema * (mean - state->norm_mean);
  if (safe.size() < 2) return;  // one sample has no deviation
  state->norm_deviation += options.ada_ema * (Deviation(safe, mean) - state->norm_deviation);
}

TargetLogit AdaFaceTarget(const MarginOptions& options, double z, double norm,
                          const MarginState& state) {
  constexpr double kEpsilon = 1e-3;  // the authors'
  const double cosine = z / options.scale;
  const double clamped = std::clamp(cosine, -1 + kEpsilon, 1 - kEpsilon);
  const double safe = std::clamp(norm, 0.001, 100.0);
  const double quality = std::clamp(
      (safe - state.norm_mean) / (state.norm_deviation + kEpsilon) * options.ada_h, -1.0, 1.0);
  const double theta = std::acos(clamped) - options.m2 * quality;
  const double bounded = std::clamp(theta, kEpsilon, std::numbers::pi - kEpsilon);
  TargetLogit target;
  target.logit = options.scale * (std::cos(bounded) - options.m2 * (1 + quality));
  target.by_z = clamped == cosine && bounded == theta ? std::sin(bounded) / Sine(clamped) : 0;
  return target;
}

TargetLogit MagFaceTarget(const MarginOptions& options, double z, double norm) {
  const double low = options.mag_norm_low;
  const double high = options.mag_norm_high;
  const double a = std::clamp(norm, low, high);
  const double slope = (options.mag_margin_high - options.mag_margin_low) / (high - low);
  const double margin = options.mag_margin_low + slope * (a - low);
  const MarginValue value = AngularMargin(z / options.scale, 1, margin, 0);
  TargetLogit target;
  target.logit = options.scale * value.psi;
  target.by_z = value.derivative;
  target.cost = options.mag_lambda * (1 / a + a / (high * high));
  if (a == norm) {  // outside, the norm has no influence
    target.by_norm = options.scale * value.by_margin * slope;
    target.cost_by_norm = options.mag_lambda * (1 / (high * high) - 1 / (a * a));
  }
  return target;
}

TargetLogit AngularTarget(const MarginOptions& options, double z) {
  const double cosine = z / options.scale;
  TargetLogit target;
  target.hard = options.scale * std::cos(std::acos(std::clamp(cosine, -1.0, 1.0)) + options.m2);
  if (options.easy_margin && cosine <= 0) {
    target.logit = z - options.scale * options.m3;
    return target;
  }
  const MarginValue margin = AngularMargin(cosine, options.m1, options.m2, options.m3);
  target.logit = options.scale * margin.psi;
  target.by_z = margin.derivative;
  return target;
}

TargetLogit Target(const MarginOptions& options, double z, double norm, const MarginState& state) {
  switch (options.type) {
    case MarginType::kSoftmax:
      return {z};
    case MarginType::kSphereFace:
      return SphereFaceTarget(options, z, norm, state.step);
    case MarginType::kAdaFace:
      return AdaFaceTarget(options, z, norm, state);
    case MarginType::kMagFace:
      return MagFaceTarget(options, z, norm);
    case MarginType::kNormalizedSoftmax:
    case MarginType::kCosFace:
    case MarginType::kArcFace:
    case MarginType::kCombined:
    case MarginType::kCurricularFace:
      return AngularTarget(options, z);
  }
  return {z};
}

}  // namespace

MarginOptions DefaultMargin(MarginType type) {
  MarginOptions options;
  options.type = type;
  options.m2 = 0;
  switch (type) {
    case MarginType::kSoftmax:
      options.scale = 1;
      break;
    case MarginType::kNormalizedSoftmax:
      break;
    case MarginType::kSphereFace:
      options.scale = 1;
      options.m1 = 4;
      break;
    case MarginType::kCosFace:
      options.m3 = 0.35;
      break;
    case MarginType::kArcFace:
    case MarginType::kCurricularFace:
      options.m2 = 0.5;
      break;
    case MarginType::kCombined:
      options.m2 = 0.3;
      options.m3 = 0.2;
      break;
    case MarginType::kAdaFace:
      options.m2 = 0.4;
      break;
    case MarginType::kMagFace:
      break;  // its margin is mag_margin_low to mag_margin_high
  }
  return options;
}

MarginValue AngularMargin(double cosine, double m1, double m2, double m3) {
  const double c = std::clamp(cosine, -kLimit, kLimit);
  if (m1 == 1) {
    // theta + m2 > pi
    if (c < -std::cos(m2)) {
      return {c - m2 * std::sin(m2) - m3, 1, -std::sin(m2) - m2 * std::cos(m2)};
    }
    const double sine = Sine(c);
    const double shifted = sine * std::cos(m2) + c * std::sin(m2);  // sin(theta + m2)
    return {c * std::cos(m2) - sine * std::sin(m2) - m3, shifted / sine, -shifted};
  }
  const double angle = m1 * std::acos(c) + m2;
  const double k = std::floor(angle / std::numbers::pi);
  const double sign = std::fmod(k, 2) == 0 ? 1 : -1;
  const double sine = sign * std::sin(angle);
  return {sign * std::cos(angle) - 2 * k - m3, m1 * sine / Sine(c), -sine};
}

std::vector<TargetLogit> TargetLogits(const MarginOptions& options, const std::vector<double>& z,
                                      const std::vector<double>& norms, MarginState* state) {
  if (options.type == MarginType::kAdaFace) UpdateNormStatistics(options, norms, state);
  if (options.type == MarginType::kCurricularFace) {
    state->curricular_t += options.curricular_ema * (Mean(z) / options.scale - state->curricular_t);
  }
  std::vector<TargetLogit> targets;
  targets.reserve(z.size());
  for (std::size_t sample = 0; sample < z.size(); ++sample) {
    targets.push_back(Target(options, z[sample], norms[sample], *state));
    if (options.straight_through) targets.back().by_z = 1;
  }
  return targets;
}

}  // namespace fr
