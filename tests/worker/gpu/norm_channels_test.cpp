// What normalisation computes by channel, between its passes over activations, beside the formulas
// (gpu_kernels.h) in double precision: statistics, running means, gradients.

#include <algorithm>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "tests/worker/gpu/norm_values.h"
#include "worker/gpu/kernels/kernels.h"

namespace fr {
namespace {

const GpuKernels& kernels = emulated_gpu::kKernels;

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

}  // namespace
}  // namespace fr
