// Normalisation on GPUs beside its formulas (backbone_kernels.h, gpu_kernels.h) in double
// precision. Values are chosen so that float32 computes v = scale x + offset exactly: the kinks of
// activations are met, on either side and in the middle, and what is computed value by value must
// be the exact result, rounded once.

#include <algorithm>
#include <cmath>
#include <ostream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/worker/backbones/activation_formulas.h"
#include "tests/worker/gpu/norm_values.h"
#include "worker/gpu/kernels/kernels.h"

namespace fr {
namespace {

const GpuKernels& kernels = emulated_gpu::kKernels;

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

struct Case {
  bool bf16;
  std::int64_t rows;
  std::int64_t channels;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.rows << " rows of " << c.channels << " channels, " << (c.bf16 ? "bf16" : "float32");
}

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
