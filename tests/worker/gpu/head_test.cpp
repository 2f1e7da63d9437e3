// The head's kernels for GPUs beside the formulas, in double precision. Both planes' numbers, tiles
// that are full and tiles that end anywhere.

#include <algorithm>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "tests/worker/gpu/operands.h"
#include "worker/gpu/kernels/kernels.h"

namespace fr {
namespace {

const GpuKernels& kernels = emulated_gpu::kKernels;

struct Case {
  std::int64_t rows;
  std::int64_t batch;
  std::int64_t size;  // of an embedding
  int planes;
  int sub_centers = 1;
  bool listed = false;  // rows by a list, every other identity
  NegativeRule::Kind rule = NegativeRule::Kind::kAsIs;
  bool bias = false;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.rows << " rows, " << c.batch << " samples, D " << c.size << ", planes " << c.planes
       << ", sub-centers " << c.sub_centers << (c.listed ? ", listed" : "") << ", rule "
       << static_cast<int>(c.rule) << (c.bias ? ", bias" : "");
}

constexpr double kScale = 16;

// One tile and a batch, with what the kernels are given of them.
class HeadKernels : public testing::TestWithParam<Case> {
 protected:
  HeadKernels()
      : c_(GetParam()),
        shard_rows_(c_.listed ? 2 * c_.rows : c_.rows + 5),
        columns_(Padded(c_.size)),
        samples_(Padded(c_.batch)),
        w_(RandomMatrix(shard_rows_, columns_, 0.1, 1)),
        x_(RandomMatrix(c_.batch, c_.size, 1, 2)),
        wide_x_(samples_, columns_, c_.planes),
        narrow_w_(c_.rows, columns_, c_.planes),
        factor_(static_cast<std::size_t>(c_.rows)),
        inverse_norm_(static_cast<std::size_t>(c_.rows)),
        hard_(static_cast<std::size_t>(samples_), 2.0F),
        bias_(static_cast<std::size_t>(shard_rows_)) {
    for (std::int64_t i = 0; i < shard_rows_; ++i) {
      for (std::int64_t d = c_.size; d < columns_; ++d) w_(i, d) = 0;
      bias_[static_cast<std::size_t>(i)] = 0.01F * static_cast<float>(i % 7);
    }
    for (std::int64_t b = 0; b < c_.batch; ++b) Normalise(b);
    tile_.rows = c_.rows;
    tile_.columns = columns_;
    tile_.first = c_.listed ? 0 : 5 / c_.sub_centers * c_.sub_centers;
    if (c_.listed) {
      for (std::int64_t i = 0; i < c_.rows; ++i) {
        list_.push_back(i / c_.sub_centers * 2 * c_.sub_centers + i % c_.sub_centers);
      }
      tile_.row = list_.data();
    }
    kernels.narrow(x_.value.data(), c_.batch, c_.size, wide_x_.view(), nullptr);
    GpuNarrowRows narrow;
    narrow.tile = tile_;
    narrow.w = w_.value.data();
    narrow.scale = kScale;
    narrow.out = narrow_w_.view();
    narrow.factor = factor_.data();
    narrow.inverse_norm = inverse_norm_.data();
    kernels.narrow_rows(narrow, nullptr);
    // Every fifth sample's identity is of the tile; two of them may be one identity's.
    for (std::int64_t b = 0; b < c_.batch; b += 5) {
      const std::int64_t identity = (b / 10) % (c_.rows / c_.sub_centers);
      const std::int64_t row = Row(identity * c_.sub_centers + b % c_.sub_centers);
      targets_.push_back({row, static_cast<std::int32_t>(b), 0.25F, -0.5F});
    }
    std::stable_sort(targets_.begin(), targets_.end(),
                     [](const GpuTarget& a, const GpuTarget& b) { return a.row < b.row; });
    logits_.tile = tile_;
    logits_.w = narrow_w_.view();
    logits_.x = wide_x_.view();
    logits_.batch = c_.batch;
    logits_.factor = factor_.data();
    if (c_.bias) logits_.bias = bias_.data();
    logits_.sub_centers = c_.sub_centers;
    logits_.targets = targets_.data();
    logits_.num_targets = static_cast<std::int64_t>(targets_.size());
    logits_.rule = {c_.rule, 3.0F, 0.3F, static_cast<float>(1 / kScale), hard_.data()};
  }

  void Normalise(std::int64_t b) {
    double squares = 0;
    for (std::int64_t d = 0; d < c_.size; ++d) squares += std::pow(x_(b, d), 2);
    for (std::int64_t d = 0; d < c_.size; ++d) {
      x_(b, d) = static_cast<float>(x_(b, d) / std::sqrt(squares));
    }
  }

  std::int64_t Row(std::int64_t i) const {
    return list_.empty() ? tile_.first + i : list_[static_cast<std::size_t>(i)];
  }
  double Factor(std::int64_t i) const { return kScale / Length(i); }
  double Length(std::int64_t i) const {
    double squares = 0;
    for (std::int64_t d = 0; d < c_.size; ++d) squares += std::pow(w_(Row(i), d), 2);
    return std::sqrt(squares);
  }

  // Logits [rows][batch] as they are before the rule, of the operands as they are rounded.
  std::vector<std::vector<double>> Logits() const {
    std::vector<std::vector<double>> z(static_cast<std::size_t>(c_.rows));
    for (std::int64_t i = 0; i < c_.rows; ++i) {
      for (std::int64_t b = 0; b < c_.batch; ++b) {
        double product = 0;
        for (std::int64_t d = 0; d < c_.size; ++d) product += narrow_w_(i, d) * wide_x_(b, d);
        z[i].push_back(product * Factor(i) + (c_.bias ? bias_[Row(i)] : 0.0F));
      }
    }
    for (std::int64_t first = 0; first < c_.rows; first += c_.sub_centers) {
      for (std::int64_t b = 0; b < c_.batch; ++b) {
        std::int64_t nearest = first;
        for (std::int64_t i = first; i < first + c_.sub_centers; ++i) {
          if (z[i][b] > z[nearest][b]) nearest = i;
        }
        for (std::int64_t i = first; i < first + c_.sub_centers; ++i) {
          if (i != nearest) z[i][b] = -1e30;
        }
      }
    }
    for (const GpuTarget& target : targets_) {
      for (std::int64_t i = 0; i < c_.rows; ++i) {
        if (Row(i) / c_.sub_centers == target.row / c_.sub_centers) z[i][target.sample] = -1e30;
      }
    }
    return z;
  }

  double Ruled(double z) const {
    if (c_.rule == NegativeRule::Kind::kFilter) return z > 3 ? 0 : z;
    if (c_.rule == NegativeRule::Kind::kCurricular) return z > 2 ? z * (0.3F + z / kScale) : z;
    return z;
  }
  double Slope(double z) const {
    if (c_.rule == NegativeRule::Kind::kFilter) return z > 3 ? 0 : 1;
    if (c_.rule == NegativeRule::Kind::kCurricular) return z > 2 ? 0.3F + 2 * z / kScale : 1;
    return 1;
  }

  // Of all samples, over the tile's negatives.
  std::vector<double> LogSumExp(const std::vector<std::vector<double>>& z) const {
    std::vector<double> result;
    for (std::int64_t b = 0; b < c_.batch; ++b) {
      double sum = 0;
      for (const auto& row : z) sum += row[b] <= -1e30 ? 0 : std::exp(Ruled(row[b]));
      result.push_back(std::log(sum));
    }
    return result;
  }

  std::int64_t RowBlocks() const { return GpuBlocks(c_.rows, GpuBlockRows(c_.sub_centers)); }
  std::int64_t SampleBlocks() const { return GpuBlocks(samples_, kGpuBlock); }
  // Of a tile of products in the kernels' own precision.
  double Tolerance() const { return 2e-6 * kScale; }

  Case c_;
  std::int64_t shard_rows_;
  std::int64_t columns_;
  std::int64_t samples_;
  Matrix w_;
  Matrix x_;
  Operand wide_x_;
  Operand narrow_w_;
  std::vector<float> factor_;
  std::vector<float> inverse_norm_;
  std::vector<float> hard_;
  std::vector<float> bias_;
  std::vector<std::int64_t> list_;
  std::vector<GpuTarget> targets_;
  GpuRows tile_;
  GpuLogits logits_;
};

TEST_P(HeadKernels, OperandsAreTheRowsRoundedToTheirPlanes) {
  const double rounding = std::ldexp(1.0, c_.planes == 1 ? -8 : -24);
  for (std::int64_t i = 0; i < c_.rows; ++i) {
    EXPECT_NEAR(factor_[i], Factor(i), 1e-6 * Factor(i));
    EXPECT_NEAR(inverse_norm_[i], 1 / Length(i), 1e-6 / Length(i));
    for (std::int64_t d = 0; d < columns_; ++d) {
      ASSERT_NEAR(narrow_w_(i, d), w_(Row(i), d), rounding * std::abs(w_(Row(i), d)));
    }
  }
  for (std::int64_t b = 0; b < samples_; ++b) {
    for (std::int64_t d = 0; d < columns_; ++d) {
      const double value = b < c_.batch && d < c_.size ? x_(b, d) : 0;
      ASSERT_NEAR(wide_x_(b, d), value, rounding * std::abs(value));
    }
  }
}

TEST_P(HeadKernels, SoftmaxOfBlocksMergesToThatOfTheTile) {
  std::vector<float> largest(RowBlocks() * samples_, NAN);
  std::vector<float> sum(RowBlocks() * samples_, NAN);
  GpuSoftmax softmax;
  softmax.logits = logits_;
  softmax.largest = largest.data();
  softmax.sum = sum.data();
  kernels.softmax(softmax, nullptr);
  std::vector<double> all_largest(samples_, kNoLogit);
  std::vector<double> all_sum(samples_, 0);
  std::vector<double> lower(samples_, 0.5);
  std::vector<float> reference(samples_, NAN);
  kernels.merge_softmax({largest.data(), sum.data(), RowBlocks(), samples_, all_largest.data(),
                         all_sum.data(), lower.data(), reference.data()},
                        nullptr);
  const std::vector<double> expected = LogSumExp(Logits());
  for (std::int64_t b = 0; b < c_.batch; ++b) {
    EXPECT_NEAR(all_largest[b] + std::log(all_sum[b]), expected[b], Tolerance()) << b;
    const double both = std::log(std::exp(expected[b]) + std::exp(0.5));
    EXPECT_LE(reference[b], both + Tolerance());
    EXPECT_NEAR(reference[b], both, 2 * Tolerance());
  }
}

TEST_P(HeadKernels, BoundsHoldForEveryIdentityAndTheMassBehindThem) {
  std::vector<float> largest(RowBlocks() * samples_);
  std::vector<float> sum(RowBlocks() * samples_);
  std::vector<float> reference(samples_, 5.0F);
  std::vector<std::int32_t> bin(shard_rows_ / c_.sub_centers + 1, kBoundBins);
  std::vector<unsigned long long> mass(kBoundBins * samples_, 0);
  GpuSoftmax softmax;
  softmax.logits = logits_;
  softmax.largest = largest.data();
  softmax.sum = sum.data();
  softmax.bounds = {reference.data(), bin.data(), mass.data()};
  kernels.softmax(softmax, nullptr);

  const auto z = Logits();
  std::vector<std::vector<double>> real(kBoundBins, std::vector<double>(c_.batch, 0.0));
  for (std::int64_t first = 0; first < c_.rows; first += c_.sub_centers) {
    const std::int64_t identity = Row(first) / c_.sub_centers;
    double bound = -1e30;
    bool has_target = false;
    for (const GpuTarget& target : targets_) {
      has_target = has_target || target.row / c_.sub_centers == identity;
    }
    for (std::int64_t i = first; i < first + c_.sub_centers; ++i) {
      for (const double logit : z[i]) bound = std::max(bound, Ruled(logit) - 5);
    }
    const std::int32_t own = bin[identity];
    if (has_target || bound >= 1e-5) {
      EXPECT_EQ(own, -1) << identity;
    } else if (bound < -1e-5) {
      const double exact = std::min<double>(-2 * bound, kBoundBins - 1);
      EXPECT_LE(own, exact + 1e-4) << identity;
      EXPECT_GE(own, std::floor(exact - 1e-4)) << identity;
    }
    if (own < 0) continue;
    for (std::int64_t i = first; i < first + c_.sub_centers; ++i) {
      for (std::int64_t b = 0; b < c_.batch; ++b) real[own][b] += std::exp(Ruled(z[i][b]) - 5);
    }
  }
  // From any bin on.
  for (std::int64_t b = 0; b < c_.batch; ++b) {
    double counted = 0;
    double really = 0;
    for (int from = kBoundBins - 1; from >= 0; --from) {
      counted += static_cast<double>(mass[from * samples_ + b]) / kMassUnits;
      really += real[from][b];
      EXPECT_GE(counted, really * (1 - 1e-5)) << "bin " << from << " sample " << b;
    }
    // With one block of samples the bins are the identities' own.
    if (samples_ <= kGpuBlock) {
      EXPECT_NEAR(counted, really, 1e-5 * really + 1e-8);
    }
  }
}

TEST_P(HeadKernels, CoefficientsRowsAndEmbeddingGradientsFollowTheFormulas) {
  const auto z = Logits();
  const std::vector<double> shift = LogSumExp(z);
  std::vector<float> log_sum_exp(samples_, INFINITY);
  for (std::int64_t b = 0; b < c_.batch; ++b) log_sum_exp[b] = static_cast<float>(shift[b]);
  Operand g(c_.rows, samples_, c_.planes);
  std::vector<float> along(SampleBlocks() * c_.rows, NAN);
  std::vector<float> total(SampleBlocks() * c_.rows, NAN);
  std::vector<float> mass(RowBlocks() * samples_, NAN);
  GpuCoefficients coefficients;
  coefficients.logits = logits_;
  coefficients.log_sum_exp = log_sum_exp.data();
  coefficients.share = 0.125F;
  coefficients.g = g.view();
  coefficients.along = along.data();
  coefficients.total = total.data();
  coefficients.mass = mass.data();
  kernels.coefficients(coefficients, nullptr);

  std::vector<std::vector<double>> expected(c_.rows, std::vector<double>(samples_, 0.0));
  std::vector<double> along_sum(c_.rows, 0.0);
  std::vector<double> total_sum(c_.rows, 0.0);
  for (std::int64_t i = 0; i < c_.rows; ++i) {
    for (std::int64_t b = 0; b < c_.batch; ++b) {
      double d =
          z[i][b] <= -1e30 ? 0 : 0.125 * std::exp(Ruled(z[i][b]) - log_sum_exp[b]) * Slope(z[i][b]);
      double z_own = z[i][b];
      for (const GpuTarget& target : targets_) {
        if (target.row != Row(i) || target.sample != b) continue;
        d = target.gradient;
        z_own = target.z;
      }
      if (d == 0) continue;
      expected[i][b] = d * Factor(i);
      along_sum[i] += d * z_own;
      total_sum[i] += d;
    }
  }
  const double rounding = c_.planes == 1 ? 4e-3 : 0;
  for (std::int64_t i = 0; i < c_.rows; ++i) {
    for (std::int64_t b = 0; b < samples_; ++b) {
      ASSERT_NEAR(g(i, b), expected[i][b],
                  (rounding + 4 * Tolerance()) * std::abs(expected[i][b]) + 1e-9)
          << i << " " << b;
    }
  }
  std::vector<double> sample_mass(samples_, 0.0);
  for (std::int64_t b = 0; b < c_.batch; ++b) {
    for (std::int64_t block = 0; block < RowBlocks(); ++block) {
      sample_mass[b] += mass[block * samples_ + b];
    }
    EXPECT_NEAR(sample_mass[b], 1, 4 * Tolerance());
  }

  // The rows' sums, and the biases' step.
  const float decay = 0.01F;
  Matrix first = RandomMatrix(shard_rows_, columns_, 0.01, 3);
  std::vector<float> bias_first(shard_rows_, 0.5F);
  Matrix moved = w_;
  std::vector<float> moved_bias = bias_;
  GpuRowState state;
  state.w = moved.value.data();
  state.first = first.value.data();
  if (c_.bias) {
    state.bias = moved_bias.data();
    state.bias_first = bias_first.data();
  }
  RowUpdate update;
  update.decay = decay;
  update.momentum = 0.9F;
  update.by_momentum = 0.1F;
  const Matrix first_before = first;
  std::vector<float> radial(c_.rows, NAN);
  kernels.row_sums({tile_, along.data(), total.data(), SampleBlocks(),
                    c_.bias ? nullptr : inverse_norm_.data(), radial.data(), state, update},
                   nullptr);
  for (std::int64_t i = 0; i < c_.rows; ++i) {
    const double exact = c_.bias ? 0 : along_sum[i] / std::pow(Length(i), 2);
    EXPECT_NEAR(radial[i], exact, 1e-4 * (std::abs(exact) + 1));
    if (!c_.bias) continue;
    const double v = 0.9 * 0.5 + total_sum[i];
    EXPECT_NEAR(bias_first[Row(i)], v, 1e-5);
    EXPECT_NEAR(moved_bias[Row(i)], bias_[Row(i)] - 0.1 * v, 1e-5);
  }

  kernels.row_products({tile_, g.view(), wide_x_.view(), radial.data(), state, update}, nullptr);
  std::vector<bool> in_tile(shard_rows_, false);
  for (std::int64_t i = 0; i < c_.rows; ++i) {
    in_tile[Row(i)] = true;
    for (std::int64_t d = 0; d < columns_; ++d) {
      double gradient = 0;
      for (std::int64_t b = 0; b < c_.batch; ++b) gradient += g(i, b) * wide_x_(b, d);
      const double w = w_(Row(i), d);
      gradient += (decay - radial[i]) * w;
      const double v = 0.9 * first_before(Row(i), d) + gradient;
      ASSERT_NEAR(first(Row(i), d), v, 1e-5) << i << " " << d;
      ASSERT_NEAR(moved(Row(i), d), w - 0.1 * v, 1e-5) << i << " " << d;
    }
  }
  for (std::int64_t row = 0; row < shard_rows_; ++row) {
    if (in_tile[row]) continue;
    for (std::int64_t d = 0; d < columns_; ++d) ASSERT_EQ(moved(row, d), w_(row, d));
  }

  constexpr int kSplits = 3;
  std::vector<float> partial(kSplits * samples_ * columns_, 0.25F);
  kernels.embedding_gradients({g.view(), narrow_w_.view(), kSplits, partial.data()}, nullptr);
  for (std::int64_t b = 0; b < samples_; ++b) {
    for (std::int64_t d = 0; d < columns_; ++d) {
      double exact = 0.25 * kSplits;
      for (std::int64_t i = 0; i < c_.rows; ++i) exact += g(i, b) * narrow_w_(i, d);
      double sum = 0;
      for (int s = 0; s < kSplits; ++s) sum += partial[(s * samples_ + b) * columns_ + d];
      ASSERT_NEAR(sum, exact, 1e-5) << b << " " << d;
    }
  }
}

TEST_P(HeadKernels, TargetLogitsAreTheNearestRows) {
  std::vector<std::int64_t> identities;
  std::vector<std::int64_t> samples;
  for (std::int64_t b = 0; b < c_.batch; b += 3) {
    identities.push_back((7 * b) % (shard_rows_ / c_.sub_centers));
    samples.push_back(b);
  }
  std::vector<double> z(identities.size(), NAN);
  std::vector<std::int64_t> best(identities.size(), -1);
  GpuTargetLogits work;
  work.num_targets = static_cast<std::int64_t>(identities.size());
  work.identity = identities.data();
  work.sample = samples.data();
  work.w = w_.value.data();
  work.columns = columns_;
  work.sub_centers = c_.sub_centers;
  work.x = x_.value.data();
  work.x_columns = c_.size;
  work.scale = kScale;
  work.z = z.data();
  work.best_row = best.data();
  kernels.target_logits(work, nullptr);
  for (std::size_t t = 0; t < identities.size(); ++t) {
    double nearest = -1e30;
    std::int64_t nearest_row = -1;
    for (int k = 0; k < c_.sub_centers; ++k) {
      const std::int64_t row = identities[t] * c_.sub_centers + k;
      double product = 0, ww = 0, xx = 0;
      for (std::int64_t d = 0; d < c_.size; ++d) {
        const double a = w_(row, d);
        const double b = x_(samples[t], d);
        product += a * b;
        ww += a * a;
        xx += b * b;
      }
      const double cosine = kScale * product / std::sqrt(ww) / std::sqrt(xx);
      if (cosine > nearest) {
        nearest = cosine;
        nearest_row = row;
      }
    }
    EXPECT_NEAR(z[t], nearest, 1e-12);
    EXPECT_EQ(best[t], nearest_row);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Cases, HeadKernels,
    testing::Values(Case{128, 32, 32, 1}, Case{3, 1, 16, 1}, Case{200, 45, 40, 1},
                    Case{130, 150, 64, 1}, Case{100, 20, 96, 3}, Case{257, 33, 16, 3, 1, true},
                    Case{156, 20, 32, 1, 3}, Case{64, 140, 32, 1, 2, true},
                    Case{90, 17, 32, 1, 1, false, NegativeRule::Kind::kFilter},
                    Case{90, 17, 32, 3, 1, false, NegativeRule::Kind::kCurricular},
                    Case{90, 17, 160, 1, 1, false, NegativeRule::Kind::kAsIs, true}));

// The order in which a block's threads run must not matter: with barriers where they belong, it
// does not.
TEST(EmulatedGpu, TheOrderOfThreadsDoesNotMatter) {
  const Matrix w = RandomMatrix(150, 64, 0.1, 1);
  const Matrix x = RandomMatrix(40, 64, 1, 2);
  std::vector<std::vector<float>> results;
  for (const bool reversed : {false, true}) {
    emulated_gpu::simt::SetReversed(reversed);
    Operand wide_x(64, 64, 3);
    Operand narrow_w(150, 64, 3);
    Operand g(150, 64, 3);
    std::vector<float> factor(150), inverse_norm(150), lse(64, 3.0F);
    std::vector<float> largest(2 * 64), sum(2 * 64), along(150), total(150);
    kernels.narrow(x.value.data(), 40, 64, wide_x.view(), nullptr);
    const GpuRows tile{150, 0, nullptr, 64};
    kernels.narrow_rows(
        {tile, w.value.data(), true, 4, narrow_w.view(), factor.data(), inverse_norm.data()},
        nullptr);
    GpuLogits logits;
    logits.tile = tile;
    logits.w = narrow_w.view();
    logits.x = wide_x.view();
    logits.batch = 40;
    logits.factor = factor.data();
    GpuSoftmax softmax;
    softmax.logits = logits;
    softmax.largest = largest.data();
    softmax.sum = sum.data();
    kernels.softmax(softmax, nullptr);
    GpuCoefficients coefficients{logits,       lse.data(),   1,      g.view(),
                                 along.data(), total.data(), nullptr};
    kernels.coefficients(coefficients, nullptr);
    std::vector<float> partial(2 * 64 * 64, 0.0F);
    kernels.embedding_gradients({g.view(), narrow_w.view(), 2, partial.data()}, nullptr);
    partial.insert(partial.end(), largest.begin(), largest.end());
    partial.insert(partial.end(), sum.begin(), sum.end());
    partial.insert(partial.end(), along.begin(), along.end());
    results.push_back(partial);
  }
  emulated_gpu::simt::SetReversed(false);
  EXPECT_EQ(results[0], results[1]);
}

}  // namespace
}  // namespace fr
