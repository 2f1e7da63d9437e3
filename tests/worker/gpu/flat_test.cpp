// Passes over flat buffers, and the network's input, beside their formulas (updates.h) in double
// precision.

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "tests/worker/gpu/operands.h"
#include "worker/gpu/kernels/kernels.h"

namespace fr {
namespace {

const GpuKernels& kernels = emulated_gpu::kKernels;

constexpr std::int64_t kSize = 1500;
// Float32 rounds each of a few operations.
constexpr double kTolerance = 1e-6;

std::vector<float> RandomFloats(std::int64_t size, std::uint64_t seed) {
  return RandomMatrix(1, size, 1, seed).value;
}

// Three parameters in a buffer: the second one in two pieces, and room between them that is no
// parameter's.
class FlatKernels : public testing::Test {
 protected:
  FlatKernels() {
    pieces_.begin = begin_.data();
    pieces_.end = end_.data();
    pieces_.parameter = parameter_.data();
    pieces_.pieces = static_cast<std::int64_t>(begin_.size());
  }

  // -1: no parameter's.
  int ParameterAt(std::int64_t i) const {
    for (std::size_t piece = 0; piece < begin_.size(); ++piece) {
      if (i >= begin_[piece] && i < end_[piece]) return parameter_[piece];
    }
    return -1;
  }

  std::vector<std::int64_t> begin_{0, 8, 264, 1000};
  std::vector<std::int64_t> end_{7, 264, 300, 1001};
  std::vector<std::int32_t> parameter_{0, 1, 1, 2};
  GpuPieces pieces_;
  std::vector<float> w_ = RandomFloats(kSize, 1);
  std::vector<float> g_ = RandomFloats(kSize, 2);
  std::vector<float> first_ = RandomFloats(kSize, 3);
};

class MomentumPass : public FlatKernels {
 protected:
  // `gains`: by parameter, as LARS has them.
  void Check(const MomentumRule& rule, const std::vector<float>& gains) {
    const std::vector<float> decay{0.0F, 0.1F, 0.5F};
    std::vector<float> w = w_, g = g_, v = first_;
    GpuMomentumPass work;
    work.pieces = pieces_;
    work.rule = rule;
    work.decay = decay.data();
    if (!gains.empty()) work.gain = gains.data();
    work.w = w.data();
    work.g = g.data();
    work.v = v.data();
    kernels.momentum_pass(work, nullptr);
    for (std::size_t i = 0; i < w.size(); ++i) {
      const int parameter = ParameterAt(static_cast<std::int64_t>(i));
      if (parameter < 0) {
        ASSERT_EQ(w[i], w_[i]) << i;
        ASSERT_EQ(g[i], g_[i]) << i;
        ASSERT_EQ(v[i], first_[i]) << i;
        continue;
      }
      const double gain = gains.empty() ? rule.gain : gains[parameter];
      const double gradient = double{rule.scale} * g_[i] + double{decay[parameter]} * w_[i];
      const double moved = double{rule.momentum} * first_[i] + gain * gradient;
      ASSERT_NEAR(v[i], moved, kTolerance) << i;
      ASSERT_NEAR(w[i], w_[i] - rule.by_momentum * moved - rule.by_gradient * gradient, kTolerance)
          << i;
      ASSERT_EQ(g[i], 0) << i;
    }
  }
};

TEST_F(MomentumPass, MovesByTheVelocity) {
  MomentumRule rule;
  rule.scale = 0.5F;
  rule.momentum = 0.9F;
  rule.by_momentum = 0.1F;
  Check(rule, {});
}

TEST_F(MomentumPass, TakesTheRulesGainOrOneForEachParameter) {
  MomentumRule rule;
  rule.gain = 0.25F;
  rule.momentum = 0.9F;
  rule.by_momentum = 1;
  Check(rule, {});
  Check(rule, {0.0F, 0.02F, 3.0F});
}

TEST_F(MomentumPass, TakesNesterovsCoefficients) {
  MomentumRule rule;
  rule.momentum = 0.9F;
  rule.by_momentum = 0.09F;
  rule.by_gradient = 0.1F;
  Check(rule, {});
}

TEST_F(FlatKernels, AdamPassMovesByTheMomentsAndKeepsWhatIsNoParameters) {
  const std::vector<float> keep{1.0F, 0.99F, 0.5F};
  std::vector<float> second_before = RandomFloats(kSize, 4);
  for (float& v : second_before) v = v * v;
  std::vector<float> w = w_, g = g_, m = first_, v = second_before;
  GpuAdamPass work;
  work.pieces = pieces_;
  work.rule.scale = 0.5F;
  work.rule.beta1 = 0.9F;
  work.rule.rest1 = 0.1F;
  work.rule.beta2 = 0.999F;
  work.rule.rest2 = 0.001F;
  work.rule.rate = 0.01F;
  work.rule.root = 1.5F;
  work.rule.epsilon = 0.1F;
  work.keep = keep.data();
  work.w = w.data();
  work.g = g.data();
  work.m = m.data();
  work.v = v.data();
  kernels.adam_pass(work, nullptr);
  for (std::size_t i = 0; i < w.size(); ++i) {
    const int parameter = ParameterAt(static_cast<std::int64_t>(i));
    if (parameter < 0) {
      ASSERT_EQ(w[i], w_[i]) << i;
      ASSERT_EQ(m[i], first_[i]) << i;
      ASSERT_EQ(v[i], second_before[i]) << i;
      ASSERT_EQ(g[i], g_[i]) << i;
      continue;
    }
    const double gradient = 0.5 * g_[i];
    const double mean = 0.9 * first_[i] + 0.1 * gradient;
    const double square = 0.999 * second_before[i] + 0.001 * gradient * gradient;
    ASSERT_NEAR(m[i], mean, kTolerance) << i;
    ASSERT_NEAR(v[i], square, kTolerance * (1 + square)) << i;
    const double step = 0.01 * mean / (std::sqrt(square) * 1.5 + 0.1);
    ASSERT_NEAR(w[i], double{keep[parameter]} * w_[i] - step, kTolerance) << i;
    ASSERT_EQ(g[i], 0) << i;
  }
}

TEST_F(FlatKernels, PieceSquaresAreOfBothBuffersPieceByPiece) {
  std::vector<double> squares(2 * begin_.size(), NAN);
  kernels.piece_squares(pieces_, w_.data(), g_.data(), squares.data(), nullptr);
  for (std::size_t piece = 0; piece < begin_.size(); ++piece) {
    double a = 0;
    double b = 0;
    for (std::int64_t i = begin_[piece]; i < end_[piece]; ++i) {
      a += std::pow(double{w_[i]}, 2);
      b += std::pow(double{g_[i]}, 2);
    }
    EXPECT_NEAR(squares[2 * piece], a, 1e-12 * a) << piece;
    EXPECT_NEAR(squares[2 * piece + 1], b, 1e-12 * b) << piece;
  }
}

TEST(Flat, MoveTowardsMovesByAShareOfTheWay) {
  for (const std::int64_t size : {0, 1, 256, 1001}) {
    const std::vector<float> w = RandomFloats(size, 1);
    const std::vector<float> before = RandomFloats(size + 1, 2);
    std::vector<float> average = before;
    kernels.move_towards(average.data(), w.data(), size, 0.125F, nullptr);
    for (std::int64_t i = 0; i < size; ++i) {
      ASSERT_NEAR(average[i], before[i] + 0.125 * (double{w[i]} - before[i]), kTolerance) << i;
    }
    EXPECT_EQ(average[size], before[size]) << "beyond the end";
  }
}

// Parts are equal, but for the last ones; those beyond the end are 0.
TEST(Flat, SumSquaresAreOfEqualParts) {
  for (const std::int64_t size : {0, 1, 1024, 5000, 300'001}) {
    const std::vector<float> x = RandomFloats(size, 1);
    std::vector<double> parts(kSquareParts, NAN);
    kernels.sum_squares(x.data(), size, parts.data(), nullptr);
    std::vector<double> exact(kSquareParts, 0.0);
    const std::int64_t each = (size + kSquareParts - 1) / kSquareParts;
    for (std::int64_t i = 0; i < size; ++i) exact[i / each] += std::pow(double{x[i]}, 2);
    for (std::int64_t part = 0; part < kSquareParts; ++part) {
      ASSERT_NEAR(parts[part], exact[part], 1e-12 * exact[part]) << size << ", part " << part;
    }
  }
}

// (pixel - mean) / std: all values that a pixel has.
TEST(Flat, PixelsAreNormalisedInBothTypes) {
  std::vector<std::uint8_t> pixels;
  for (int i = 0; i < 300; ++i) pixels.push_back(static_cast<std::uint8_t>(i));
  GpuPixels work;
  work.pixels = pixels.data();
  work.size = 300;
  work.mean = 127.5F;
  work.std = 128;
  std::vector<float> floats(301, 9.0F);
  work.out = floats.data();
  kernels.pixels(work, nullptr);
  std::vector<Bf16Bits> halves(301, 0x4110);
  work.bf16 = true;
  work.out = halves.data();
  kernels.pixels(work, nullptr);
  for (std::size_t i = 0; i < 300; ++i) {
    const double exact = (pixels[i] - 127.5) / 128;
    EXPECT_EQ(floats[i], exact) << i;
    EXPECT_NEAR(emulated_gpu::simt::FromBf16(halves[i]), exact, std::abs(exact) / 256) << i;
  }
  EXPECT_EQ(floats[300], 9) << "beyond the end";
  EXPECT_EQ(halves[300], 0x4110) << "beyond the end";
}

}  // namespace
}  // namespace fr
