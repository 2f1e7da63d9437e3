#include "worker/heads/margin.h"

#include <cmath>
#include <numbers>

#include <gtest/gtest.h>

namespace fr {
namespace {

struct Angular {
  double m1, m2, m3;
};

constexpr Angular kAngular[] = {{1, 0, 0},    {1, 0.3, 0},  {1, 0.5, 0},
                                {1, 1, 0},    {1, 0, 0.35}, {1, 0.3, 0.2},
                                {1.35, 0, 0}, {4, 0, 0},    {2, 0.4, 0.1}};

// cos(m1 theta + m2) - m3 while the angle is below pi, and it falls everywhere: further from the
// centre is never cheaper.
TEST(AngularMargin, IsItsDefinitionAndMonotonic) {
  for (const Angular& m : kAngular) {
    double last = -100;
    for (double cosine = -0.999; cosine < 0.999; cosine += 1e-3) {
      const double theta = std::acos(cosine);
      const double psi = AngularMargin(cosine, m.m1, m.m2, m.m3).psi;
      if (m.m1 * theta + m.m2 <= std::numbers::pi) {
        EXPECT_NEAR(psi, std::cos(m.m1 * theta + m.m2) - m.m3, 1e-9) << cosine;
      } else if (m.m1 == 1) {
        EXPECT_NEAR(psi, cosine - m.m2 * std::sin(m.m2) - m.m3, 1e-9) << cosine;
      }
      EXPECT_GE(psi, last - 1e-12) << m.m1 << " " << m.m2 << " at " << cosine;
      last = psi;
    }
  }
}

// The derivatives against central differences, and finite where the formula has its poles.
TEST(AngularMargin, DerivativesAreThoseOfPsi) {
  constexpr double kStep = 1e-6;
  for (const Angular& m : kAngular) {
    for (double cosine = -0.995; cosine < 0.995; cosine += 0.01) {
      const double phase =
          std::fmod(m.m1 * std::acos(cosine) + m.m2, std::numbers::pi) / std::numbers::pi;
      if (phase < 0.003 || phase > 0.997) continue;  // psi may jump or bend there
      const auto psi = [&](double c, double m2) { return AngularMargin(c, m.m1, m2, m.m3).psi; };
      const MarginValue value = AngularMargin(cosine, m.m1, m.m2, m.m3);
      const double by_cosine =
          (psi(cosine + kStep, m.m2) - psi(cosine - kStep, m.m2)) / (2 * kStep);
      EXPECT_NEAR(value.derivative, by_cosine, 1e-4 * std::max(1.0, by_cosine)) << cosine;
      if (m.m2 == 0) continue;
      const double by_margin =
          (psi(cosine, m.m2 + kStep) - psi(cosine, m.m2 - kStep)) / (2 * kStep);
      EXPECT_NEAR(value.by_margin, by_margin, 1e-4) << cosine;
    }
    for (const double cosine : {-1.0, 1.0, 1.0000001}) {
      EXPECT_TRUE(std::isfinite(AngularMargin(cosine, m.m1, m.m2, m.m3).derivative));
    }
  }
}

// lambda of the SphereFace authors' files: 1000 at first, 5 in the end.
TEST(TargetLogits, SphereFaceBeginsAsSoftmaxAndEndsWithItsMargin) {
  const MarginOptions options = DefaultMargin(MarginType::kSphereFace);
  MarginState first;
  MarginState late;
  late.step = 1e6;
  const double cosine = 0.4;
  const double norm = 20;
  const double psi = AngularMargin(cosine, 4, 0, 0).psi;
  EXPECT_NEAR(TargetLogits(options, {norm * cosine}, {norm}, &first)[0].logit,
              norm * (1000 * cosine + psi) / 1001, 1e-9);
  EXPECT_NEAR(TargetLogits(options, {norm * cosine}, {norm}, &late)[0].logit,
              norm * (5 * cosine + psi) / 6, 1e-9);
}

TEST(TargetLogits, EasyMarginSparesWhatIsFarAway) {
  MarginOptions options = DefaultMargin(MarginType::kArcFace);
  options.easy_margin = true;
  MarginState state;
  const auto targets = TargetLogits(options, {64 * -0.2, 64 * 0.2}, {1, 1}, &state);
  EXPECT_NEAR(targets[0].logit, 64 * -0.2, 1e-9);
  EXPECT_NEAR(targets[0].by_z, 1, 1e-9);
  EXPECT_NEAR(targets[1].logit, 64 * std::cos(std::acos(0.2) + 0.5), 1e-9);
}

TEST(TargetLogits, StraightThroughHasSlopeOne) {
  MarginOptions options = DefaultMargin(MarginType::kArcFace);
  MarginState state;
  EXPECT_NE(TargetLogits(options, {32}, {1}, &state)[0].by_z, 1);
  options.straight_through = true;
  EXPECT_EQ(TargetLogits(options, {32}, {1}, &state)[0].by_z, 1);
}

}  // namespace
}  // namespace fr
