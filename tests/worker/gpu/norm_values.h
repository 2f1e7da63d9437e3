#pragma once
// What tests of normalisation share: activations in either type, of chosen values, and a batch
// norm's vectors.

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/base/random.h"
#include "simt.h"
#include "worker/gpu/gpu_kernels.h"

namespace fr {

inline constexpr double kEpsilon = 1e-3;

// To eight bits, to nearest even.
inline float NearestBf16(double value) {
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

inline void ExpectClose(double value, double exact, double size, const std::string& what) {
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

}  // namespace fr
