// Every loop of backbone_kernels.h against plain loops in double precision.

#include "worker/backbones/kernels/backbone_kernels.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/base/random.h"
#include "tests/worker/backbones/activation_formulas.h"

namespace fr {
namespace {

using Values = std::vector<float>;

float FromBf16(std::uint16_t bits) {
  const std::uint32_t word = static_cast<std::uint32_t>(bits) << 16U;
  float value = 0;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

// To nearest even, by asking which of the two neighbours is nearer.
std::uint16_t ToBf16(float value) {
  std::uint32_t word = 0;
  std::memcpy(&word, &value, sizeof word);
  const auto low = static_cast<std::uint16_t>(word >> 16U);
  if (std::isnan(value)) return low | 0x40U;
  const std::uint32_t rest = word & 0xFFFFU;
  const bool up = rest > 0x8000U || (rest == 0x8000U && low % 2 == 1);
  return up ? low + 1 : low;
}

// Activations of either type in memory that ends where they end (so that a sanitizer sees what
// reads on) and begins where no vector would like it.
class Buffer {
 public:
  Buffer(bool bf16, std::size_t size)
      : bf16_(bf16), size_(size), bytes_(Unit() + size * Unit(), 0) {}
  Buffer(bool bf16, const Values& values) : Buffer(bf16, values.size()) {
    for (std::size_t i = 0; i < size_; ++i) Set(i, values[i]);
  }

  void* data() { return bytes_.data() + Unit(); }
  const void* data() const { return bytes_.data() + Unit(); }
  std::size_t size() const { return size_; }

  double operator[](std::size_t i) const {
    if (!bf16_) {
      float value = 0;
      std::memcpy(&value, At(i), sizeof value);
      return value;
    }
    std::uint16_t bits = 0;
    std::memcpy(&bits, At(i), sizeof bits);
    return FromBf16(bits);
  }

  // What a result may differ by from the exact value: half a unit in the last place of what is
  // stored, and float32's error of sums.
  double Tolerance(double value) const { return std::abs(value) / (bf16_ ? 250 : 1e6) + 2e-5; }

 private:
  std::size_t Unit() const { return bf16_ ? 2 : 4; }
  const std::uint8_t* At(std::size_t i) const { return bytes_.data() + (i + 1) * Unit(); }
  void Set(std::size_t i, float value) {
    const std::uint16_t bits = ToBf16(value);
    std::memcpy(bytes_.data() + (i + 1) * Unit(),
                bf16_ ? static_cast<const void*>(&bits) : static_cast<const void*>(&value), Unit());
  }

  bool bf16_;
  std::size_t size_;
  std::vector<std::uint8_t> bytes_;
};

Values RandomValues(std::int64_t size, std::uint64_t seed, double deviation = 1, double mean = 0) {
  Random random(seed);
  Values values(size);
  for (float& value : values) value = static_cast<float>(mean + deviation * random.Normal());
  return values;
}

// Less than any vector; parts of vectors; whole ones; blocks of them with a rest.
constexpr std::int64_t kChannels[] = {1, 3, 10, 16, 24, 64, 83, 128};
// More rows than one block of sums; a range that begins and ends inside.
constexpr std::int64_t kRows = 201;
constexpr std::int64_t kBegin = 5;
constexpr std::int64_t kEnd = 194;

class BackboneKernelsTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    kernels_ = FindBackboneKernels(GetParam());
    if (kernels_ == nullptr) GTEST_SKIP() << "this processor has no " << GetParam();
  }

  // Rows outside the range stay as they were: zero.
  static void ExpectNothingOutside(const Buffer& y, std::int64_t row_size) {
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(y.size()); ++i) {
      if (i >= kBegin * row_size && i < kEnd * row_size) continue;
      ASSERT_EQ(y[i], 0) << i;
    }
  }

  const BackboneKernels* kernels_ = nullptr;
};

void ForEachShape(const std::function<void(bool bf16, std::int64_t channels)>& test) {
  for (const bool bf16 : {false, true}) {
    for (const std::int64_t channels : kChannels) {
      SCOPED_TRACE(testing::Message()
                   << (bf16 ? "bf16, " : "float32, ") << channels << " channels");
      test(bf16, channels);
    }
  }
}

using Sums = std::vector<double>;

void ExpectSums(const Sums& actual, const Sums& expected, const Sums& magnitude) {
  for (std::size_t c = 0; c < actual.size(); ++c) {
    ASSERT_NEAR(actual[c], expected[c], 1e-6 * magnitude[c] + 1e-9) << "channel " << c;
  }
}

TEST_P(BackboneKernelsTest, MomentsAreAdded) {
  ForEachShape([&](bool bf16, std::int64_t channels) {
    const Buffer x(bf16, RandomValues(kRows * channels, 1, 1, 3));
    const Values shift = RandomValues(channels, 2, 0.1, 3);
    Sums sum(channels, 0.5);
    Sums squares(channels, 0.25);
    Sums expected = sum;
    Sums expected_squares = squares;
    Sums magnitude(channels, 0);
    kernels_->moments({bf16, channels, x.data(), shift.data()}, kBegin, kEnd,
                      {sum.data(), squares.data()});
    for (std::int64_t i = kBegin * channels; i < kEnd * channels; ++i) {
      const double d = x[i] - shift[i % channels];
      expected[i % channels] += d;
      expected_squares[i % channels] += d * d;
      magnitude[i % channels] += std::abs(d);
    }
    ExpectSums(sum, expected, magnitude);
    ExpectSums(squares, expected_squares, expected_squares);
  });
}

TEST_P(BackboneKernelsTest, ForwardIsActivationOfAffineMap) {
  ForEachShape([&](bool bf16, std::int64_t channels) {
    const Buffer x(bf16, RandomValues(kRows * channels, 1, 3));
    const Buffer residual(bf16, RandomValues(kRows * channels, 2));
    const Values scale = RandomValues(channels, 3, 1, 1);
    const Values offset = RandomValues(channels, 4);
    const Values slope = RandomValues(channels, 5, 0.1, 0.25);
    const Values shift = RandomValues(channels, 6);
    for (const Activation activation : kActivations) {
      for (const bool with_residual : {false, true}) {
        for (const bool with_moments : {false, true}) {
          Buffer y(bf16, kRows * channels);
          Sums sum(channels, 1);
          Sums squares(channels, 2);
          NormForward work{.bf16 = bf16,
                           .activation = activation,
                           .channels = channels,
                           .x = x.data(),
                           .residual = with_residual ? residual.data() : nullptr,
                           .y = y.data(),
                           .scale = scale.data(),
                           .offset = offset.data(),
                           .slope = slope.data(),
                           .shift = with_moments ? shift.data() : nullptr};
          if (activation != Activation::kPrelu) work.slope = nullptr;
          const MomentSums sums{sum.data(), squares.data()};
          kernels_->norm_forward(work, kBegin, kEnd, with_moments ? sums : MomentSums{});
          ExpectNothingOutside(y, channels);
          Sums expected_sum(channels, 1);
          Sums expected_squares(channels, 2);
          Sums magnitude(channels, 0);
          for (std::int64_t i = kBegin * channels; i < kEnd * channels; ++i) {
            const std::int64_t c = i % channels;
            const double v = x[i] * scale[c] + offset[c] + (with_residual ? residual[i] : 0);
            const double expected = Activated(activation, v, slope[c]);
            ASSERT_NEAR(y[i], expected, y.Tolerance(expected));
            const double d = y[i] - shift[c];  // of what is stored
            expected_sum[c] += d;
            expected_squares[c] += d * d;
            magnitude[c] += std::abs(d);
          }
          if (!with_moments) continue;
          ExpectSums(sum, expected_sum, magnitude);
          ExpectSums(squares, expected_squares, expected_squares);
        }
      }
    }
  });
}

TEST_P(BackboneKernelsTest, SumAndItsNormAreBothWritten) {
  ForEachShape([&](bool bf16, std::int64_t channels) {
    const Buffer x(bf16, RandomValues(kRows * channels, 1));
    const Buffer residual(bf16, RandomValues(kRows * channels, 2));
    const Values scale = RandomValues(channels, 3);
    const Values offset = RandomValues(channels, 4);
    Buffer y(bf16, kRows * channels);
    Buffer z(bf16, kRows * channels);
    kernels_->sum_norm({bf16, channels, x.data(), residual.data(), y.data(), z.data(), scale.data(),
                        offset.data()},
                       kBegin, kEnd);
    ExpectNothingOutside(y, channels);
    ExpectNothingOutside(z, channels);
    for (std::int64_t i = kBegin * channels; i < kEnd * channels; ++i) {
      ASSERT_NEAR(y[i], x[i] + residual[i], y.Tolerance(x[i] + residual[i]));
      const double expected = y[i] * scale[i % channels] + offset[i % channels];
      ASSERT_NEAR(z[i], expected, z.Tolerance(expected));
    }
  });
}

TEST_P(BackboneKernelsTest, BackwardIsThatOfForward) {
  ForEachShape([&](bool bf16, std::int64_t channels) {
    const Buffer x(bf16, RandomValues(kRows * channels, 1, 3));
    const Buffer dy(bf16, RandomValues(kRows * channels, 2));
    const Values scale = RandomValues(channels, 3, 1, 1);
    const Values offset = RandomValues(channels, 4);
    const Values slope = RandomValues(channels, 5, 0.1, 0.25);
    const Values mean = RandomValues(channels, 6);
    const Values a = RandomValues(channels, 7);
    const Values b = RandomValues(channels, 8);
    const Values d = RandomValues(channels, 9);
    const Values added = RandomValues(kRows * channels, 10);
    for (const Activation activation : kActivations) {
      NormBackward work{.bf16 = bf16,
                        .activation = activation,
                        .channels = channels,
                        .x = x.data(),
                        .dy = dy.data(),
                        .scale = scale.data(),
                        .offset = offset.data(),
                        .slope = slope.data(),
                        .mean = mean.data(),
                        .a = a.data()};
      if (activation == Activation::kNone) work.scale = work.offset = nullptr;
      if (activation != Activation::kPrelu) work.slope = nullptr;
      const auto gradient = [&](std::int64_t i) {
        // The affine map as float32 has it: near zero its sign decides.
        const std::int64_t c = i % channels;
        const double v = std::fma(static_cast<float>(x[i]), scale[c], offset[c]);
        return dy[i] * DerivativeOf(activation, v, slope[c]);
      };
      Sums sum_g(channels, 1);
      Sums sum_g_x(channels, 2);
      Sums sum_slope(channels, 3);
      kernels_->norm_backward_sums(work, kBegin, kEnd,
                                   {sum_g.data(), sum_g_x.data(),
                                    activation == Activation::kPrelu ? sum_slope.data() : nullptr});
      Sums expected_g(channels, 1);
      Sums expected_g_x(channels, 2);
      Sums expected_slope(channels, 3);
      Sums magnitude(channels, 0);
      for (std::int64_t i = kBegin * channels; i < kEnd * channels; ++i) {
        const std::int64_t c = i % channels;
        const double v = x[i] * scale[c] + offset[c];
        expected_g[c] += gradient(i);
        expected_g_x[c] += gradient(i) * (x[i] - mean[c]);
        if (activation == Activation::kPrelu && v <= 0) expected_slope[c] += dy[i] * v;
        magnitude[c] += std::abs(dy[i]) * (1 + std::abs(v) + std::abs(x[i] - mean[c]));
      }
      ExpectSums(sum_g, expected_g, magnitude);
      ExpectSums(sum_g_x, expected_g_x, magnitude);
      ExpectSums(sum_slope, expected_slope, magnitude);

      for (const bool linear : {false, true}) {
        for (const bool add : {false, true}) {
          // The gradient that is added is where the result goes.
          Buffer dx = add ? Buffer(bf16, added) : Buffer(bf16, kRows * channels);
          const Buffer before = dx;
          work.b = linear ? b.data() : nullptr;
          work.d = linear ? d.data() : nullptr;
          work.add = add ? dx.data() : nullptr;
          work.dx = dx.data();
          kernels_->norm_backward_input(work, kBegin, kEnd);
          for (std::int64_t i = 0; i < kRows * channels; ++i) {
            const std::int64_t c = i % channels;
            if (i < kBegin * channels || i >= kEnd * channels) {
              ASSERT_EQ(dx[i], before[i]);
              continue;
            }
            const double expected =
                gradient(i) * a[c] + (linear ? x[i] * b[c] + d[c] : 0) + before[i];
            ASSERT_NEAR(dx[i], expected, dx.Tolerance(expected));
          }
        }
      }
    }
  });
}

// A residual block's sum may overwrite one of its terms.
TEST_P(BackboneKernelsTest, WorksInPlace) {
  constexpr std::int64_t kSize = 83;
  const Values ones(kSize, 1.0F);
  const Values zeros(kSize, 0.0F);
  Buffer x(true, RandomValues(kRows * kSize, 1));
  const Buffer before = x;
  Buffer residual(true, RandomValues(kRows * kSize, 2));
  Buffer expected(true, kRows * kSize);
  NormForward work{.bf16 = true,
                   .activation = Activation::kRelu,
                   .channels = kSize,
                   .x = x.data(),
                   .residual = residual.data(),
                   .y = expected.data(),
                   .scale = ones.data(),
                   .offset = zeros.data()};
  kernels_->norm_forward(work, 0, kRows, {});
  work.y = x.data();
  kernels_->norm_forward(work, 0, kRows, {});
  work.x = before.data();
  work.y = residual.data();
  kernels_->norm_forward(work, 0, kRows, {});
  for (std::int64_t i = 0; i < kRows * kSize; ++i) {
    ASSERT_EQ(x[i], expected[i]);
    ASSERT_EQ(residual[i], expected[i]);
  }
}

// An activation alone changes no bit of what it passes; infinities and NaN go their way.
TEST_P(BackboneKernelsTest, ActivationAloneIsExact) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  constexpr std::int64_t kSize = 37;
  const Values ones(kSize, 1.0F);
  const Values zeros(kSize, 0.0F);
  const Values slope(kSize, 0.25F);
  for (const bool bf16 : {false, true}) {
    Values values = RandomValues(2 * kSize, 1, 4);
    values[0] = values[kSize - 1] = std::numeric_limits<float>::quiet_NaN();
    values[1] = values[kSize - 2] = std::numeric_limits<float>::infinity();
    values[2] = values[kSize - 3] = -std::numeric_limits<float>::infinity();
    values[3] = values[kSize - 4] = 0;
    values[4] = values[kSize - 5] = 6;
    const Buffer x(bf16, values);
    const Buffer dy(bf16, RandomValues(2 * kSize, 2));
    for (const Activation activation : kActivations) {
      Buffer y(bf16, 2 * kSize);
      kernels_->norm_forward({.bf16 = bf16,
                              .activation = activation,
                              .channels = kSize,
                              .x = x.data(),
                              .y = y.data(),
                              .scale = ones.data(),
                              .offset = zeros.data(),
                              .slope = slope.data()},
                             0, 2, {});
      Buffer dx(bf16, 2 * kSize);
      kernels_->norm_backward_input({.bf16 = bf16,
                                     .activation = activation,
                                     .channels = kSize,
                                     .x = x.data(),
                                     .dy = dy.data(),
                                     .scale = ones.data(),
                                     .offset = zeros.data(),
                                     .slope = slope.data(),
                                     .a = ones.data(),
                                     .dx = dx.data()},
                                    0, 2);
      for (std::int64_t i = 0; i < 2 * kSize; ++i) {
        if (std::isnan(x[i])) {
          EXPECT_TRUE(std::isnan(y[i])) << i;
          continue;
        }
        EXPECT_EQ(y[i], Activated(activation, x[i], 0.25)) << i;
        EXPECT_EQ(dx[i], dy[i] * DerivativeOf(activation, x[i], 0.25)) << i;
      }
      EXPECT_EQ(y[1], activation == Activation::kRelu6 ? 6 : kInfinity);
    }
  }
}

// Just halfway between two numbers, just below and just above.
TEST_P(BackboneKernelsTest, RoundsToNearestEven) {
  constexpr std::int64_t kSize = 37;
  Values offset(kSize);
  Random random(1);
  for (std::int64_t c = 0; c < kSize; ++c) {
    std::uint32_t bits = static_cast<std::uint32_t>(random.Below(1 << 15)) << 16U;
    bits = (bits & 0x3FFFFFFFU) | 0x20000000U;  // no infinities, nothing tiny
    bits |= c % 3 == 0 ? 0x8000U : (c % 3 == 1 ? 0x7FFFU : 0x8001U);
    std::memcpy(&offset[c], &bits, sizeof bits);
  }
  const Buffer x(true, Values(kSize, 0.0F));
  const Values ones(kSize, 1.0F);
  Buffer y(true, kSize);
  kernels_->norm_forward({.bf16 = true,
                          .channels = kSize,
                          .x = x.data(),
                          .y = y.data(),
                          .scale = ones.data(),
                          .offset = offset.data()},
                         0, 1, {});
  for (std::int64_t c = 0; c < kSize; ++c) EXPECT_EQ(y[c], FromBf16(ToBf16(offset[c]))) << c;
}

// ---- depthwise ----

struct Convolution {
  std::int64_t channels;
  std::int64_t height;
  std::int64_t width;
  std::int64_t kernel;
  std::int64_t stride;
  std::int64_t padding;
};

constexpr std::int64_t kImages = 3;

const Convolution kConvolutions[] = {
    {64, 15, 15, 3, 1, 1}, {64, 14, 14, 3, 2, 1}, {16, 7, 7, 3, 1, 1},  {10, 16, 9, 3, 2, 1},
    {4, 5, 17, 3, 1, 0},   {34, 9, 30, 3, 2, 0},  {18, 8, 20, 3, 1, 2}, {160, 7, 7, 7, 1, 0},
    {22, 6, 5, 7, 1, 3},   {32, 15, 31, 7, 1, 3}, {6, 15, 17, 7, 2, 3}, {18, 12, 11, 5, 1, 2},
    {18, 12, 16, 5, 2, 2}, {18, 6, 8, 5, 2, 1},   {40, 6, 6, 1, 1, 0},  {18, 13, 11, 4, 3, 2},
    {18, 9, 9, 3, 3, 1},   {18, 3, 1, 3, 1, 1},   {2, 1, 1, 3, 1, 1},   {16, 6, 6, 9, 2, 4},
};

// Every product of the convolution: visit(output, input, weight), as indices.
template <class Visit>
void ForEachProduct(const DepthwiseShape& s, const Visit& visit) {
  const std::int64_t out_height = s.OutHeight();
  const std::int64_t out_width = s.OutWidth();
  const std::int64_t per_weight = s.paired ? 2 : 1;
  for (std::int64_t n = 0; n < kImages; ++n) {
    for (std::int64_t oy = 0; oy < out_height; ++oy) {
      for (std::int64_t ox = 0; ox < out_width; ++ox) {
        for (std::int64_t k = 0; k < s.kernel * s.kernel; ++k) {
          const std::int64_t iy = oy * s.stride - s.padding + k / s.kernel;
          const std::int64_t ix = ox * s.stride - s.padding + k % s.kernel;
          if (iy < 0 || iy >= s.height || ix < 0 || ix >= s.width) continue;
          const std::int64_t output = ((n * out_height + oy) * out_width + ox) * s.channels;
          const std::int64_t input = ((n * s.height + iy) * s.width + ix) * s.channels;
          for (std::int64_t c = 0; c < s.channels; ++c) {
            visit(output + c, input + c, k * per_weight * s.channels + c);
            if (s.paired) visit(output + c, input + (c ^ 1), (k * 2 + 1) * s.channels + c);
          }
        }
      }
    }
  }
}

template <class Test>
void ForEachConvolution(const Test& test) {
  for (const bool paired : {false, true}) {
    for (const bool bf16 : {false, true}) {
      for (const Convolution& c : kConvolutions) {
        SCOPED_TRACE(testing::Message()
                     << (bf16 ? "bf16, " : "float32, ") << (paired ? "paired, " : "") << c.channels
                     << " channels, " << c.height << " x " << c.width << ", kernel " << c.kernel
                     << ", stride " << c.stride << ", padding " << c.padding);
        DepthwiseShape shape{bf16,    paired,   c.channels, c.height,
                             c.width, c.kernel, c.stride,   c.padding};
        test(shape);
        if (testing::Test::HasFatalFailure()) return;
        if (paired) continue;
        ++shape.channels;
        test(shape);
      }
    }
  }
}

// Rows of all images in three uneven ranges.
void InRanges(std::int64_t rows, const std::function<void(std::int64_t, std::int64_t)>& run) {
  run(0, rows / 4);
  run(rows / 4, rows / 4);
  run(rows / 4, rows - 1);
  run(rows - 1, rows);
}

void ExpectValues(const Buffer& actual, const Sums& expected) {
  for (std::size_t i = 0; i < expected.size(); ++i) {
    ASSERT_NEAR(actual[i], expected[i], actual.Tolerance(expected[i])) << i;
  }
}

std::int64_t Pixels(const DepthwiseShape& s) { return kImages * s.height * s.width; }
std::int64_t OutPixels(const DepthwiseShape& s) { return kImages * s.OutHeight() * s.OutWidth(); }
std::int64_t Weights(const DepthwiseShape& s) {
  return s.kernel * s.kernel * (s.paired ? 2 : 1) * s.channels;
}

TEST_P(BackboneKernelsTest, DepthwiseForward) {
  ForEachConvolution([&](const DepthwiseShape& shape) {
    const Buffer x(shape.bf16, RandomValues(Pixels(shape) * shape.channels, 1));
    const Buffer weight(false, RandomValues(Weights(shape), 2));
    Buffer y(shape.bf16, OutPixels(shape) * shape.channels);
    InRanges(kImages * shape.OutHeight(), [&](std::int64_t begin, std::int64_t end) {
      kernels_->depthwise_forward(shape, x.data(), static_cast<const float*>(weight.data()),
                                  y.data(), begin, end);
    });
    Sums expected(y.size());
    ForEachProduct(shape, [&](std::int64_t output, std::int64_t input, std::int64_t w) {
      expected[output] += x[input] * weight[w];
    });
    ExpectValues(y, expected);
  });
}

TEST_P(BackboneKernelsTest, DepthwiseBackwardInput) {
  ForEachConvolution([&](const DepthwiseShape& shape) {
    const Buffer dy(shape.bf16, RandomValues(OutPixels(shape) * shape.channels, 1));
    const Buffer weight(false, RandomValues(Weights(shape), 2));
    Buffer dx(shape.bf16, Pixels(shape) * shape.channels);
    InRanges(kImages * shape.height, [&](std::int64_t begin, std::int64_t end) {
      kernels_->depthwise_backward_input(shape, dy.data(), static_cast<const float*>(weight.data()),
                                         dx.data(), begin, end);
    });
    Sums expected(dx.size());
    ForEachProduct(shape, [&](std::int64_t output, std::int64_t input, std::int64_t w) {
      expected[input] += dy[output] * weight[w];
    });
    ExpectValues(dx, expected);
  });
}

TEST_P(BackboneKernelsTest, DepthwiseBackwardWeight) {
  ForEachConvolution([&](const DepthwiseShape& shape) {
    const Buffer x(shape.bf16, RandomValues(Pixels(shape) * shape.channels, 1));
    const Buffer dy(shape.bf16, RandomValues(OutPixels(shape) * shape.channels, 2, 0.1));
    Buffer gradient(false, RandomValues(Weights(shape), 3));
    Sums expected(gradient.size());
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = gradient[i];
    InRanges(kImages * shape.OutHeight(), [&](std::int64_t begin, std::int64_t end) {
      kernels_->depthwise_backward_weight(shape, x.data(), dy.data(),
                                          static_cast<float*>(gradient.data()), begin, end);
    });
    ForEachProduct(shape, [&](std::int64_t output, std::int64_t input, std::int64_t w) {
      expected[w] += dy[output] * x[input];
    });
    ExpectValues(gradient, expected);
  });
}

INSTANTIATE_TEST_SUITE_P(Sets, BackboneKernelsTest,
                         testing::Values("avx512_bf16", "avx512", "avx2", "portable"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace fr
