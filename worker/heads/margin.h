#pragma once
// The angular margin of the target's logit, as a function of its cosine. Pure; double precision.

namespace fr {

// psi and its derivative at one cosine.
struct MarginValue {
  double psi = 0;         // replaces cos(theta) of the target
  double derivative = 0;  // d psi / d cos(theta)
};

// ArcFace (arXiv:1801.07698): psi = cos(theta + margin) while theta + margin <= pi; beyond, where
// that would rise again, the continuation cos(theta) - margin sin(margin), as InsightFace has it.
// `cosine` is clamped into
// [-1 + 1e-7, 1 - 1e-7]: the derivative sin(theta + margin) / sin(theta) has poles at the ends.
// margin in [0, pi].
MarginValue ArcFace(double cosine, double margin);

}  // namespace fr
