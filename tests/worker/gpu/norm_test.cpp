// Normalisation on GPUs beside its formulas (backbone_kernels.h, gpu_kernels.h) in double
// precision. Values are chosen so that float32 computes v = scale x + offset exactly: the kinks of
// activations are met, on either side and in the middle, and what is computed value by value must
// be the exact result, rounded once.

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/worker/gpu/operands.h"
#include "worker/gpu/kernels/kernels.h"

namespace fr {
namespace {

const GpuKernels& kernels = emulated_gpu::kKernels;

constexpr double kEpsilon = 1e-3;
constexpr Activation kActivations[] = {Activation::kNone, Activation::kRelu, Activation::kRelu6,
                                       Activation::kPrelu};

// To eight bits, to nearest even.
float NearestBf16(double value) {
  int exponent = 0;
  const double mantissa = std::frexp(value, &exponent);
  return static_cast<float>(std::ldexp(std::nearbyint(std::ldexp(mantissa, 8)), exponent - 8));
}

// Activations [rows][channels] in either type, NaN at first.
class Pixels {
 public:
  Pixels(bool bf16, std::int64_t rows_in, std::int64_t channels_in)
      : rows(rows_in),
        channels(channels_in),
        bf16_(bf16),
        halves_(bf16 ? static_cast<std::size_t>(rows * channels) : 0, 0x7fff),
        floats_(bf16 ? 0 : static_cast<std::size_t>(rows * channels), NAN) {}

  void* data() { return bf16_ ? static_cast<void*>(halves_.data()) : floats_.data(); }
  const void* data() const { return const_cast<Pixels*>(this)->data(); }
  double operator()(std::int64_t row, std::int64_t c) const {
    const auto at = static_cast<std::size_t>(row * channels + c);
    return bf16_ ? emulated_gpu::simt::FromBf16(halves_[at]) : floats_[at];
  }
  void Set(std::int64_t row, std::int64_t c, double value) {
    const auto at = static_cast<std::size_t>(row * channels + c);
    if (bf16_) {
      halves_[at] = emulated_gpu::simt::ToBf16(static_cast<float>(value));
    } else {
      floats_[at] = static_cast<float>(value);
    }
  }
  // As it would be stored.
  double Rounded(double value) const {
    return bf16_ ? NearestBf16(value) : static_cast<float>(value);
  }

  std::int64_t rows;
  std::int64_t channels;

 private:
  bool bf16_;
  std::vector<Bf16Bits> halves_;
  std::vector<float> floats_;
};

// Multiples of `step`, at most `most` of them on either side of 0.
class Steps {
 public:
  explicit Steps(std::uint64_t seed) : random_(seed) {}
  double Next(double step, std::int64_t most) {
    return step * static_cast<double>(random_.Below(2 * most + 1) - most);
  }
  std::vector<float> Vector(std::int64_t channels, double step, std::int64_t most) {
    std::vector<float> vector;
    for (std::int64_t c = 0; c < channels; ++c) {
      vector.push_back(static_cast<float>(Next(step, most)));
    }
    return vector;
  }
  Pixels Image(bool bf16, std::int64_t rows, std::int64_t channels, double step = 0.25,
               std::int64_t most = 32) {
    Pixels pixels(bf16, rows, channels);
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t c = 0; c < channels; ++c) pixels.Set(row, c, Next(step, most));
    }
    return pixels;
  }

 private:
  Random random_;
};

double Activated(Activation activation, double v, double slope) {
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

double DerivativeOf(Activation activation, double v, double slope) {
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

// Every value is exact(row, channel) as it is stored.
template <class Exact>
void ExpectPixels(const Pixels& pixels, const Exact& exact) {
  for (std::int64_t row = 0; row < pixels.rows; ++row) {
    for (std::int64_t c = 0; c < pixels.channels; ++c) {
      const double expected = pixels.Rounded(exact(row, c));
      if (pixels(row, c) == expected) continue;
      FAIL() << "row " << row << ", channel " << c << ": " << pixels(row, c) << ", not "
             << expected;
    }
  }
}

void ExpectClose(double value, double exact, double size, const std::string& what) {
  EXPECT_NEAR(value, exact, 2e-6 * size) << what;
}

// A batch norm's own vectors, outputs and running means.
struct BatchNorm {
  explicit BatchNorm(std::int64_t channels)
      : weight(Steps(11).Vector(channels, 0.25, 8)),
        bias(Steps(12).Vector(channels, 0.25, 8)),
        running_mean(static_cast<std::size_t>(channels), 1.0F),
        running_variance(static_cast<std::size_t>(channels), 2.0F),
        vectors(4, std::vector<float>(static_cast<std::size_t>(channels), NAN)) {}

  GpuNormStatistics Work(bool running) {
    GpuNormStatistics work;
    work.channels = static_cast<std::int64_t>(weight.size());
    work.epsilon = kEpsilon;
    work.weight = weight.data();
    work.bias = bias.data();
    work.out = {mean().data(), inverse_std().data(), scale().data(), offset().data()};
    if (!running) return work;
    work.running_mean = running_mean.data();
    work.running_variance = running_variance.data();
    work.batches = &batches;
    return work;
  }

  std::vector<float>& mean() { return vectors[0]; }
  std::vector<float>& inverse_std() { return vectors[1]; }
  std::vector<float>& scale() { return vectors[2]; }
  std::vector<float>& offset() { return vectors[3]; }

  // That they are what `mean` and `variance` of channel c make of them.
  void ExpectVectors(std::size_t c, double exact_mean, double variance) {
    const std::string what = "channel " + std::to_string(c);
    const double exact_inverse = 1 / std::sqrt(variance + kEpsilon);
    const double exact_scale = weight[c] * exact_inverse;
    ExpectClose(mean()[c], exact_mean, std::abs(exact_mean) + 1, what + ", mean");
    ExpectClose(inverse_std()[c], exact_inverse, exact_inverse, what + ", 1 / std");
    ExpectClose(scale()[c], exact_scale, std::abs(exact_scale), what + ", scale");
    ExpectClose(offset()[c], bias[c] - exact_mean * exact_scale,
                1 + (std::abs(exact_mean) + 1) * std::abs(exact_scale), what + ", offset");
  }
  // That they moved from 1 and 2 by a tenth of the way.
  void ExpectRunning(std::size_t c, double exact_mean, double unbiased) const {
    EXPECT_NEAR(running_mean[c], 1 + 0.1 * (exact_mean - 1), 2e-6 * (1 + std::abs(exact_mean)))
        << c;
    EXPECT_NEAR(running_variance[c], 2 + 0.1 * (unbiased - 2), 2e-6 * (1 + unbiased)) << c;
  }
  void ExpectRunningAsBefore(std::size_t c) const {
    EXPECT_EQ(running_mean[c], 1) << c;
    EXPECT_EQ(running_variance[c], 2) << c;
  }

  std::vector<float> weight;
  std::vector<float> bias;
  std::vector<float> running_mean;
  std::vector<float> running_variance;
  std::int64_t batches = 7;
  std::vector<std::vector<float>> vectors;
};

struct Case {
  bool bf16;
  std::int64_t rows;
  std::int64_t channels;
};

std::string NameOf(const testing::TestParamInfo<Case>& info) {
  return std::string(info.param.bf16 ? "Bf16" : "Float") + std::to_string(info.param.rows) + "x" +
         std::to_string(info.param.channels);
}

class NormKernels : public testing::TestWithParam<Case> {
 protected:
  NormKernels()
      : c_(GetParam()),
        x_(Steps(1).Image(c_.bf16, c_.rows, c_.channels)),
        other_(Steps(2).Image(c_.bf16, c_.rows, c_.channels)),
        scale_(Steps(3).Vector(c_.channels, 0.25, 8)),
        offset_(Steps(4).Vector(c_.channels, 0.25, 8)),
        slope_(Steps(5).Vector(c_.channels, 0.25, 4)) {}

  double V(std::int64_t row, std::int64_t c) const { return scale_[c] * x_(row, c) + offset_[c]; }

  Pixels Empty() const { return Pixels(c_.bf16, c_.rows, c_.channels); }

  // ---- Moments ----

  // Sums of moments [2][channels], and what of the batch norm follows if `then` is given.
  struct MomentsOut {
    std::vector<double> sums;
    std::vector<float> shift;
  };
  MomentsOut Moments(const GpuNormStatistics* then) const {
    MomentsOut out{std::vector<double>(2 * c_.channels, NAN), std::vector<float>(c_.channels, NAN)};
    std::vector<float> partial(GpuNormParts(c_.rows, c_.channels) * 2 * c_.channels, NAN);
    GpuMoments work;
    work.bf16 = c_.bf16;
    work.rows = c_.rows;
    work.channels = c_.channels;
    work.x = x_.data();
    work.partial = partial.data();
    work.sums = out.sums.data();
    work.shift = out.shift.data();
    kernels.moments(work, then, nullptr);
    return out;
  }

  double MeanOf(std::int64_t c) const {
    double sum = 0;
    for (std::int64_t row = 0; row < c_.rows; ++row) sum += x_(row, c);
    return sum / std::max<double>(static_cast<double>(c_.rows), 1);
  }
  double SquaresAround(std::int64_t c, double mean) const {
    double sum = 0;
    for (std::int64_t row = 0; row < c_.rows; ++row) sum += std::pow(x_(row, c) - mean, 2);
    return sum;
  }

  // ---- Backward ----

  NormBackward Backward(Activation activation) const {
    NormBackward work;
    work.bf16 = c_.bf16;
    work.activation = activation;
    work.channels = c_.channels;
    work.x = x_.data();
    work.dy = other_.data();
    work.scale = scale_.data();
    work.offset = offset_.data();
    work.slope = activation == Activation::kPrelu ? slope_.data() : nullptr;
    return work;
  }
  double G(Activation activation, std::int64_t row, std::int64_t c) const {
    return other_(row, c) * DerivativeOf(activation, V(row, c), slope_[c]);
  }

  Case c_;
  Pixels x_;
  Pixels other_;  // residual, or dy
  std::vector<float> scale_;
  std::vector<float> offset_;
  std::vector<float> slope_;
};

TEST_P(NormKernels, MomentsAreSumsAroundTheFirstRow) {
  const MomentsOut out = Moments(nullptr);
  for (std::int64_t c = 0; c < c_.channels; ++c) {
    ASSERT_EQ(out.shift[c], c_.rows == 0 ? 0 : x_(0, c)) << c;
    double sum = 0;
    double size = 0;
    for (std::int64_t row = 0; row < c_.rows; ++row) {
      sum += x_(row, c) - out.shift[c];
      size += std::abs(x_(row, c) - out.shift[c]);
    }
    const double squares = SquaresAround(c, out.shift[c]);
    ExpectClose(out.sums[c], sum, size, "sum of channel " + std::to_string(c));
    ExpectClose(out.sums[c_.channels + c], squares, squares,
                "squares of channel " + std::to_string(c));
  }
}

// With what follows from them in the same launch, running means, too. Without rows there is no
// batch: mean and variance are 0, and the running ones stay.
TEST_P(NormKernels, MomentsAndThenTheStatistics) {
  BatchNorm norm(c_.channels);
  GpuNormStatistics then = norm.Work(true);
  then.own_count = static_cast<double>(c_.rows);
  const MomentsOut out = Moments(&then);
  for (std::int64_t c = 0; c < c_.channels; ++c) {
    const double mean = MeanOf(c);
    const double squares = SquaresAround(c, mean);
    const auto rows = static_cast<double>(c_.rows);
    norm.ExpectVectors(c, mean, squares / std::max(rows, 1.0));
    if (c_.rows == 0) {
      norm.ExpectRunningAsBefore(c);
    } else {
      norm.ExpectRunning(c, mean, squares / std::max(rows - 1, 1.0));
    }
    EXPECT_FALSE(std::isnan(out.sums[c]));
  }
  EXPECT_EQ(norm.batches, c_.rows == 0 ? 7 : 8);
}

TEST_P(NormKernels, ForwardIsTheActivationOfScaleOffsetAndResidual) {
  for (const Activation activation : kActivations) {
    for (const bool with_residual : {false, true}) {
      SCOPED_TRACE(testing::Message() << "activation " << static_cast<int>(activation)
                                      << (with_residual ? ", residual" : ""));
      Pixels y = Empty();
      NormForward work;
      work.bf16 = c_.bf16;
      work.activation = activation;
      work.channels = c_.channels;
      work.x = x_.data();
      work.residual = with_residual ? other_.data() : nullptr;
      work.y = y.data();
      work.scale = scale_.data();
      work.offset = offset_.data();
      work.slope = activation == Activation::kPrelu ? slope_.data() : nullptr;
      kernels.norm_forward(work, c_.rows, nullptr);
      ExpectPixels(y, [&](std::int64_t row, std::int64_t c) {
        const double v = V(row, c) + (with_residual ? other_(row, c) : 0.0);
        return Activated(activation, v, slope_[c]);
      });
    }
  }
}

// z comes of y as it is stored: of a sum that bfloat16 has to round.
TEST_P(NormKernels, SumNormIsTheSumAndItsNormalisation) {
  const Pixels residual = Steps(6).Image(c_.bf16, c_.rows, c_.channels, 1.0 / 64, 255);
  Pixels y = Empty();
  Pixels z = Empty();
  const SumNorm work{c_.bf16,  c_.channels, x_.data(),     residual.data(),
                     y.data(), z.data(),    scale_.data(), offset_.data()};
  kernels.sum_norm(work, c_.rows, nullptr);
  ExpectPixels(y, [&](std::int64_t row, std::int64_t c) { return x_(row, c) + residual(row, c); });
  ExpectPixels(
      z, [&](std::int64_t row, std::int64_t c) { return scale_[c] * y(row, c) + offset_[c]; });
}

TEST_P(NormKernels, BackwardSumsAreOfWhatTheActivationLetsThrough) {
  const std::vector<float> mean = Steps(6).Vector(c_.channels, 0.25, 8);
  for (const Activation activation : kActivations) {
    SCOPED_TRACE(testing::Message() << "activation " << static_cast<int>(activation));
    std::vector<float> partial(GpuNormParts(c_.rows, c_.channels) * 3 * c_.channels, NAN);
    std::vector<double> sums(3 * c_.channels, NAN);
    GpuNormBackwardSums work{Backward(activation), c_.rows, partial.data(), sums.data()};
    work.work.mean = mean.data();
    kernels.norm_backward_sums(work, nullptr, nullptr);
    for (std::int64_t c = 0; c < c_.channels; ++c) {
      double exact[3] = {};
      double size[3] = {};
      for (std::int64_t row = 0; row < c_.rows; ++row) {
        const double g = G(activation, row, c);
        const double v = V(row, c);
        const bool flat = activation == Activation::kPrelu && !(v > 0);
        const double terms[3] = {g, g * (x_(row, c) - mean[c]), flat ? other_(row, c) * v : 0.0};
        for (int kind = 0; kind < 3; ++kind) {
          exact[kind] += terms[kind];
          size[kind] += std::abs(terms[kind]);
        }
      }
      for (int kind = 0; kind < 3; ++kind) {
        ExpectClose(sums[kind * c_.channels + c], exact[kind], size[kind],
                    "kind " + std::to_string(kind) + ", channel " + std::to_string(c));
      }
    }
  }
}

TEST_P(NormKernels, BackwardInputIsLinearInGAndX) {
  const std::vector<float> a = Steps(7).Vector(c_.channels, 0.25, 8);
  const std::vector<float> b = Steps(8).Vector(c_.channels, 0.25, 8);
  const std::vector<float> d = Steps(9).Vector(c_.channels, 0.25, 8);
  const Pixels add = Steps(10).Image(c_.bf16, c_.rows, c_.channels);
  for (const Activation activation : kActivations) {
    for (const bool with_add : {false, true}) {
      SCOPED_TRACE(testing::Message()
                   << "activation " << static_cast<int>(activation) << (with_add ? ", add" : ""));
      Pixels dx = Empty();
      NormBackward work = Backward(activation);
      work.a = a.data();
      work.b = b.data();
      work.d = d.data();
      work.add = with_add ? add.data() : nullptr;
      work.dx = dx.data();
      kernels.norm_backward_input(work, c_.rows, nullptr);
      ExpectPixels(dx, [&](std::int64_t row, std::int64_t c) {
        return a[c] * G(activation, row, c) + b[c] * x_(row, c) + d[c] +
               (with_add ? add(row, c) : 0.0);
      });
    }
  }
}

// Over dy, and over what is added.
TEST_P(NormKernels, BackwardInputWorksInPlace) {
  const std::vector<float> a = Steps(7).Vector(c_.channels, 0.25, 8);
  for (const bool over_dy : {false, true}) {
    Pixels dy = other_;
    Pixels add = Steps(10).Image(c_.bf16, c_.rows, c_.channels);
    const Pixels before = add;
    NormBackward work = Backward(Activation::kRelu);
    work.dy = dy.data();
    work.a = a.data();
    work.add = add.data();
    work.dx = over_dy ? dy.data() : add.data();
    kernels.norm_backward_input(work, c_.rows, nullptr);
    ExpectPixels(over_dy ? dy : add, [&](std::int64_t row, std::int64_t c) {
      return a[c] * G(Activation::kRelu, row, c) + before(row, c);
    });
  }
}

// Without b, and d is not read then: the activation alone, to the bit.
TEST_P(NormKernels, BackwardInputOfTheActivationAlone) {
  const std::vector<float> ones(c_.channels, 1.0F);
  const std::vector<float> zeros(c_.channels, 0.0F);
  for (const Activation activation : kActivations) {
    Pixels dx = Empty();
    NormBackward work = Backward(activation);
    work.scale = ones.data();
    work.offset = zeros.data();
    work.a = ones.data();
    work.d = ones.data();
    work.dx = dx.data();
    kernels.norm_backward_input(work, c_.rows, nullptr);
    ExpectPixels(dx, [&](std::int64_t row, std::int64_t c) {
      return other_(row, c) * DerivativeOf(activation, x_(row, c), slope_[c]);
    });
  }
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const bool bf16 : {false, true}) {
    for (const std::int64_t rows : {0, 1, 7, 5000}) {
      for (const std::int64_t channels : {1, 8, 24, 64, 100, 512}) {
        cases.push_back({bf16, rows, channels});
      }
    }
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Cases, NormKernels, testing::ValuesIn(Cases()), NameOf);

// ---- By channel alone ----

constexpr std::int64_t kChannels = 300;  // more than a block's threads

// Of several ranks: sums of x and of squares around the mean, and a count that the processor does
// not know.
TEST(NormStatistics, AreOfAllRanksRows) {
  const double count = 40;
  std::vector<double> sums(2 * kChannels);
  for (std::int64_t c = 0; c < kChannels; ++c) {
    sums[c] = 3.0 * static_cast<double>(c) - 70;
    sums[kChannels + c] = 0.5 * static_cast<double>(c);
  }
  BatchNorm norm(kChannels);
  GpuNormStatistics work = norm.Work(true);
  work.count = &count;
  work.own_count = 3;
  work.sums = sums.data();
  kernels.norm_statistics(work, nullptr);
  for (std::int64_t c = 0; c < kChannels; ++c) {
    norm.ExpectVectors(c, sums[c] / 40, sums[kChannels + c] / 40);
    norm.ExpectRunning(c, sums[c] / 40, sums[kChannels + c] / 39);
  }
  EXPECT_EQ(norm.batches, 8);
}

TEST(NormStatistics, MayLeaveTheRunningMeansAlone) {
  const std::vector<double> sums(2 * kChannels, 8.0);
  BatchNorm norm(kChannels);
  GpuNormStatistics work = norm.Work(false);
  work.own_count = 4;
  work.sums = sums.data();
  kernels.norm_statistics(work, nullptr);
  for (std::int64_t c = 0; c < kChannels; ++c) {
    norm.ExpectVectors(c, 2, 2);
    norm.ExpectRunningAsBefore(c);
  }
  EXPECT_EQ(norm.batches, 7);
}

TEST(NormStatistics, WithoutRowsOnAnyRankTheRunningMeansStay) {
  const double count = 0;
  const std::vector<double> sums(2 * kChannels, 0.0);
  BatchNorm norm(kChannels);
  GpuNormStatistics work = norm.Work(true);
  work.count = &count;
  work.own_count = 5;
  work.sums = sums.data();
  kernels.norm_statistics(work, nullptr);
  for (std::int64_t c = 0; c < kChannels; ++c) {
    norm.ExpectVectors(c, 0, 0);
    norm.ExpectRunningAsBefore(c);
  }
  EXPECT_EQ(norm.batches, 7);
}

// One batch that is not finite would stay in the means for ever; also one that float32 does not
// hold. Other channels go on.
TEST(NormStatistics, RunningMeansStayWhereTheVarianceIsNotFinite) {
  std::vector<double> sums(2 * kChannels, 8.0);
  sums[kChannels + 1] = INFINITY;
  sums[kChannels + 2] = NAN;
  sums[kChannels + 3] = 1e40;
  BatchNorm norm(kChannels);
  GpuNormStatistics work = norm.Work(true);
  work.own_count = 4;
  work.sums = sums.data();
  kernels.norm_statistics(work, nullptr);
  norm.ExpectRunning(0, 2, 8.0 / 3);
  for (const std::size_t c : {1, 2, 3}) norm.ExpectRunningAsBefore(c);
  norm.ExpectRunning(4, 2, 8.0 / 3);
  EXPECT_TRUE(std::isnan(norm.scale()[2])) << "NaN is not hidden";
}

// Sums of the own rank give the parameters' gradients; those of all ranks, the input's.
class NormGradients : public testing::Test {
 protected:
  NormGradients()
      : own_(3 * kChannels),
        all_(2 * kChannels),
        weight_(Steps(1).Vector(kChannels, 0.25, 8)),
        mean_(Steps(2).Vector(kChannels, 0.25, 8)),
        inverse_std_(kChannels),
        gradients_(3, std::vector<float>(kChannels, 1.0F)),
        abd_(3, std::vector<float>(kChannels, NAN)) {
    Steps steps(3);
    for (double& sum : own_) sum = steps.Next(0.25, 40);
    for (double& sum : all_) sum = steps.Next(0.25, 40);
    for (float& inverse : inverse_std_) inverse = static_cast<float>(2 + steps.Next(0.25, 4));
  }

  GpuNormGradients Work() {
    GpuNormGradients work;
    work.channels = kChannels;
    work.own = own_.data();
    work.own_count = 10;
    work.weight = weight_.data();
    work.mean = mean_.data();
    work.inverse_std = inverse_std_.data();
    work.weight_gradient = gradients_[0].data();
    work.bias_gradient = gradients_[1].data();
    work.slope_gradient = gradients_[2].data();
    work.a = abd_[0].data();
    work.b = abd_[1].data();
    work.d = abd_[2].data();
    return work;
  }

  // dx = scale (g - mean of g - (x - mean) / std^2 times the mean of g (x - mean)).
  void ExpectInputGradient(const std::vector<double>& all, double count) const {
    for (std::int64_t c = 0; c < kChannels; ++c) {
      const double inverse = inverse_std_[c];
      const double scale = weight_[c] * inverse;
      const double mean_g = all[c] / count;
      const double mean_gx = all[kChannels + c] / count;
      for (const double x : {-2.0, 0.5, 3.0}) {
        const double g = 1.5;
        const double exact = scale * (g - mean_g - (x - mean_[c]) * inverse * inverse * mean_gx);
        EXPECT_NEAR(abd_[0][c] * g + abd_[1][c] * x + abd_[2][c], exact,
                    2e-6 * (std::abs(scale) * 100 + 1))
            << c;
      }
    }
  }

  void ExpectParameterGradients() const {
    for (std::int64_t c = 0; c < kChannels; ++c) {
      EXPECT_NEAR(gradients_[0][c], 1 + own_[kChannels + c] * inverse_std_[c], 1e-5) << c;
      EXPECT_NEAR(gradients_[1][c], 1 + own_[c], 1e-5) << c;
      EXPECT_NEAR(gradients_[2][c], 1 + own_[2 * kChannels + c], 1e-5) << c;
    }
  }

  std::vector<double> own_;
  std::vector<double> all_;
  std::vector<float> weight_;
  std::vector<float> mean_;
  std::vector<float> inverse_std_;
  std::vector<std::vector<float>> gradients_;  // of weight, bias, slope
  std::vector<std::vector<float>> abd_;
};

TEST_F(NormGradients, OfOneRank) {
  kernels.norm_gradients(Work(), nullptr);
  ExpectParameterGradients();
  ExpectInputGradient(own_, 10);
}

TEST_F(NormGradients, OfAllRanks) {
  const double count = 25;
  GpuNormGradients work = Work();
  work.all = all_.data();
  work.count = &count;
  kernels.norm_gradients(work, nullptr);
  ExpectParameterGradients();
  ExpectInputGradient(all_, 25);
}

TEST_F(NormGradients, AreLeftOutWhereNothingIsTrained) {
  GpuNormGradients work = Work();
  work.weight_gradient = work.bias_gradient = work.slope_gradient = nullptr;
  kernels.norm_gradients(work, nullptr);
  for (const auto& gradient : gradients_) EXPECT_EQ(gradient, std::vector<float>(kChannels, 1.0F));
  ExpectInputGradient(own_, 10);
}

// In the launch that takes the sums: as with these sums afterwards.
TEST_F(NormGradients, InTheSameLaunchAsTheSums) {
  for (const std::int64_t rows : {0, 1000}) {
    const Pixels x = Steps(4).Image(false, rows, kChannels);
    const Pixels dy = Steps(5).Image(false, rows, kChannels);
    std::vector<float> partial(GpuNormParts(rows, kChannels) * 3 * kChannels, NAN);
    GpuNormBackwardSums sums;
    sums.work.activation = Activation::kPrelu;
    sums.work.channels = kChannels;
    sums.work.x = x.data();
    sums.work.dy = dy.data();
    sums.work.scale = weight_.data();
    sums.work.offset = mean_.data();
    sums.work.slope = inverse_std_.data();
    sums.work.mean = mean_.data();
    sums.rows = rows;
    sums.partial = partial.data();
    sums.sums = own_.data();
    for (auto& gradient : gradients_) std::fill(gradient.begin(), gradient.end(), 1.0F);
    GpuNormGradients then = Work();
    then.own = nullptr;
    then.own_count = static_cast<double>(rows);
    kernels.norm_backward_sums(sums, &then, nullptr);
    const auto gradients = gradients_;
    const auto abd = abd_;
    for (auto& gradient : gradients_) std::fill(gradient.begin(), gradient.end(), 1.0F);
    then.own = own_.data();
    kernels.norm_gradients(then, nullptr);
    EXPECT_EQ(gradients, gradients_) << rows << " rows";
    EXPECT_EQ(abd, abd_) << rows << " rows";
  }
}

// ---- NaN ----

TEST(Norm, NanStaysNan) {
  for (const bool bf16 : {false, true}) {
    for (const std::int64_t channels : {1, 8}) {
      for (const Activation activation : kActivations) {
        Pixels x(bf16, 3, channels);  // NaN
        Pixels y(bf16, 3, channels);
        for (std::int64_t c = 0; c < channels; ++c) y.Set(1, c, 5);
        const std::vector<float> ones(static_cast<std::size_t>(channels), 1.0F);
        NormForward work;
        work.bf16 = bf16;
        work.activation = activation;
        work.channels = channels;
        work.x = x.data();
        work.y = y.data();
        work.scale = work.offset = work.slope = ones.data();
        kernels.norm_forward(work, 3, nullptr);
        for (std::int64_t c = 0; c < channels; ++c) EXPECT_TRUE(std::isnan(y(1, c)));
      }
    }
  }
}

}  // namespace
}  // namespace fr
