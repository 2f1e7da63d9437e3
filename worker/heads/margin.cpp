#include "worker/heads/margin.h"

#include <algorithm>
#include <cmath>

namespace fr {

MarginValue ArcFace(double cosine, double margin) {
  constexpr double kLimit = 1 - 1e-7;
  const double c = std::clamp(cosine, -kLimit, kLimit);
  const double sine = std::sqrt((1 - c) * (1 + c));
  // theta + margin > pi
  if (c < -std::cos(margin)) return {c - margin * std::sin(margin), 1};
  return {c * std::cos(margin) - sine * std::sin(margin),
          std::cos(margin) + std::sin(margin) * c / sine};
}

}  // namespace fr
