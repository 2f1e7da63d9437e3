#pragma once
// Activations and their derivatives as backbone_kernels.h defines them, in double precision.

#include <algorithm>
#include <cmath>

#include "worker/backbones/kernels/backbone_kernels.h"

namespace fr {

inline constexpr Activation kActivations[] = {Activation::kNone, Activation::kRelu,
                                              Activation::kRelu6, Activation::kPrelu};

inline double Activated(Activation activation, double v, double slope) {
  switch (activation) {
    case Activation::kNone:
      return v;
    case Activation::kRelu:
      return std::max(v, 0.0);
    case Activation::kRelu6:
      return std::min(std::max(v, 0.0), 6.0);
    case Activation::kPrelu:
      return v > 0 ? v : slope * v;
  }
  return NAN;
}

inline double DerivativeOf(Activation activation, double v, double slope) {
  switch (activation) {
    case Activation::kNone:
      return 1;
    case Activation::kRelu:
      return v > 0 ? 1 : 0;
    case Activation::kRelu6:
      return v > 0 && v < 6 ? 1 : 0;
    case Activation::kPrelu:
      return v > 0 ? 1 : slope;
  }
  return NAN;
}

}  // namespace fr
