#include "worker/heads/margin.h"

#include <cmath>
#include <numbers>

#include <gtest/gtest.h>

namespace fr {
namespace {

// cos(theta + m) below pi - m, and it falls everywhere: further from the centre is never cheaper.
TEST(ArcFace, IsItsDefinitionAndMonotonic) {
  for (const double margin : {0.0, 0.3, 0.5, 1.0}) {
    double last = -10;
    for (double cosine = -1; cosine <= 1; cosine += 1e-3) {
      const double theta = std::acos(std::min(cosine, 1.0));
      const double psi = ArcFace(cosine, margin).psi;
      const double expected = theta + margin <= std::numbers::pi
                                  ? std::cos(theta + margin)
                                  : cosine - margin * std::sin(margin);
      EXPECT_NEAR(psi, expected, 5e-4 * (std::abs(cosine) > 0.999) + 1e-9) << cosine;
      EXPECT_GE(psi, last - 1e-12);
      last = psi;
    }
  }
}

// The derivative against central differences, and finite where the formula has its poles.
TEST(ArcFace, DerivativeIsThatOfPsi) {
  for (const double margin : {0.0, 0.3, 0.5}) {
    for (double cosine = -0.995; cosine < 0.995; cosine += 0.01) {
      const double at_pole = std::cos(std::numbers::pi - margin);
      if (std::abs(cosine - at_pole) < 1e-3) continue;  // psi jumps there
      const double difference =
          (ArcFace(cosine + 1e-6, margin).psi - ArcFace(cosine - 1e-6, margin).psi) / 2e-6;
      EXPECT_NEAR(ArcFace(cosine, margin).derivative, difference, 1e-4) << cosine;
    }
    for (const double cosine : {-1.0, 1.0}) {
      EXPECT_TRUE(std::isfinite(ArcFace(cosine, margin).derivative));
    }
  }
}

}  // namespace
}  // namespace fr
