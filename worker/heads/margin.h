#pragma once
// The margin family: what becomes of the target's logit, and of the others', before the softmax.
// Pure; double precision; a handful of numbers a sample.

#include <cstdint>
#include <vector>

namespace fr {

enum class MarginType : std::uint8_t {
  kSoftmax,            // w.x (+ bias): no normalisation, no scale
  kNormalizedSoftmax,  // s cos(theta)
  kSphereFace,         // |x| psi(theta), annealed: arXiv:1704.08063
  kCosFace,            // s (cos(theta) - m3): arXiv:1801.09414; AM-Softmax: arXiv:1801.05599
  kArcFace,            // s cos(theta + m2): arXiv:1801.07698
  kCombined,           // s (cos(m1 theta + m2) - m3)
  kAdaFace,            // margin by the embedding's norm: arXiv:2204.00964
  kCurricularFace,     // hard negatives weigh more as training goes on: arXiv:2004.00288
  kMagFace,            // margin grows with the embedding's norm, and so does its cost: 2103.06627
};

struct MarginOptions {
  MarginType type = MarginType::kArcFace;
  double scale = 64;
  double m1 = 1;    // factor of the angle
  double m2 = 0.5;  // added to the angle, radians; AdaFace's and CurricularFace's margin too
  double m3 = 0;    // taken from the cosine
  bool easy_margin = false;       // margin only where cos(theta) > 0, as InsightFace has it
  bool straight_through = false;  // the target's gradient as if d psi / d cos(theta) = 1
  bool bias = false;              // kSoftmax
  // Above 0: a negative whose cosine is above it counts with logit 0 and without gradient
  // (InsightFace's interclass_filtering_threshold).
  double filter_threshold = 0;

  // kSphereFace: lambda = max(min, base (1 + gamma step)^-power); psi <- (lambda cos + psi) /
  // (1 + lambda).
  double lambda_base = 1000;
  double lambda_gamma = 0.12;
  double lambda_power = 1;
  double lambda_min = 5;
  // kAdaFace
  double ada_h = 0.333;
  double ada_ema = 0.01;  // weight of the newest batch in the norms' mean and deviation
  // kCurricularFace
  double curricular_ema = 0.01;
  // kMagFace
  double mag_norm_low = 10;
  double mag_norm_high = 110;
  double mag_margin_low = 0.45;
  double mag_margin_high = 0.8;
  double mag_lambda = 35;

  bool normalizes_embeddings() const {
    return type != MarginType::kSoftmax && type != MarginType::kSphereFace;
  }
  bool normalizes_weights() const { return type != MarginType::kSoftmax; }
};

// The type with its paper's numbers: scale and margins.
MarginOptions DefaultMargin(MarginType type);

// What a margin remembers from step to step; a part of every checkpoint.
struct MarginState {
  double step = 0;  // finished steps: SphereFace's annealing, sampling, AdamW
  // AdaFace: of the embeddings' norms.
  double norm_mean = 20;
  double norm_deviation = 100;
  double curricular_t = 0;
};

// psi and its derivatives at one cosine.
struct MarginValue {
  double psi = 0;         // replaces cos(theta) of the target
  double derivative = 0;  // d psi / d cos(theta)
  double by_margin = 0;   // d psi / d m2
};

// psi = cos(m1 theta + m2) - m3, continued where the angle passes pi and the cosine would rise
// again: m1 = 1 as InsightFace continues ArcFace, cos(theta) - m2 sin(m2) - m3; other m1 as
// SphereFace does, (-1)^k cos(.) - 2 k - m3 with k = floor((m1 theta + m2) / pi). m1 > 0,
// m2 in [0, pi]. `cosine` is clamped into [-1 + 1e-7, 1 - 1e-7]: the derivative has poles at the
// ends.
MarginValue AngularMargin(double cosine, double m1, double m2, double m3);

// One sample's target. z is what the logit would be without a margin: scale cos(theta), for
// kSphereFace |x| cos(theta), for kSoftmax w.x + bias.
struct TargetLogit {
  double logit = 0;
  double by_z = 1;     // d logit / d z
  double by_norm = 0;  // d logit / d |x|, beyond what z carries
  double cost = 0;     // added to the sample's loss (kMagFace)
  double cost_by_norm = 0;
  double hard = 0;  // kCurricularFace: negatives with a logit above this are hard
};

// All targets of the global batch: `z` [B] and the embeddings' norms [B]. Moves `state` one step
// on first where the margin's method does (running means); `state.step` is the caller's.
std::vector<TargetLogit> TargetLogits(const MarginOptions& options, const std::vector<double>& z,
                                      const std::vector<double>& norms, MarginState* state);

}  // namespace fr
