// The head's inner loops for every instruction set of this processor, each against plain loops in
// double precision, on buffers that end where the data ends.

#include "worker/heads/kernels/head_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/base/random.h"

namespace fr {
namespace {

// Odd numbers of rows, one full panel and a narrow one in both directions.
constexpr std::int64_t kRows = 31;
constexpr std::int64_t kSamples = 80;
constexpr std::int64_t kColumns = 96;

using Matrix = std::vector<float>;

Matrix RandomMatrix(std::int64_t rows, std::int64_t columns, std::uint64_t seed) {
  Random random(seed);
  Matrix matrix(rows * columns);
  for (float& value : matrix) value = static_cast<float>(random.Normal());
  return matrix;
}

// Words [k][columns] as panels.
Matrix Panels(const Matrix& words, std::int64_t k, std::int64_t columns) {
  Matrix panels(words.size());
  for (std::int64_t i = 0; i < k; ++i) {
    for (std::int64_t n = 0; n < columns; ++n) {
      const std::int64_t begin = n / kPanelColumns * kPanelColumns;
      const std::int64_t width = std::min(kPanelColumns, columns - begin);
      panels[PanelOffset(begin, k) + i * width + n - begin] = words[i * columns + n];
    }
  }
  return panels;
}

Matrix Transpose(const Matrix& matrix, std::int64_t rows, std::int64_t columns) {
  Matrix result(matrix.size());
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) result[j * rows + i] = matrix[i * columns + j];
  }
  return result;
}

template <class Pointer>
std::vector<Pointer> RowPointers(Matrix& matrix, std::int64_t rows, std::int64_t columns) {
  std::vector<Pointer> pointers;
  for (std::int64_t i = 0; i < rows; ++i) pointers.push_back(matrix.data() + i * columns);
  return pointers;
}

class HeadKernelsTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    kernels_ = FindHeadKernels(GetParam());
    if (kernels_ == nullptr) GTEST_SKIP() << "this processor has no " << GetParam();
  }
  const HeadKernels* kernels_ = nullptr;
};

TEST_P(HeadKernelsTest, LogitsAreScaledProducts) {
  Matrix w = RandomMatrix(kRows, kColumns, 1);
  const Matrix x = RandomMatrix(kSamples, kColumns, 2);
  const Matrix panels = Panels(Transpose(x, kSamples, kColumns), kColumns, kSamples);
  const Matrix factor = RandomMatrix(kRows, 1, 3);
  Matrix z(kRows * kSamples);
  const auto rows = RowPointers<const float*>(w, kRows, kColumns);
  kernels_->logits(false, rows.data(), factor.data(), kRows, rows.data(), panels.data(), kSamples,
                   kColumns, z.data());
  for (std::int64_t i = 0; i < kRows; ++i) {
    for (std::int64_t b = 0; b < kSamples; ++b) {
      double sum = 0;
      for (std::int64_t d = 0; d < kColumns; ++d) {
        sum += static_cast<double>(w[i * kColumns + d]) * x[b * kColumns + d];
      }
      EXPECT_NEAR(z[i * kSamples + b], sum * factor[i], 1e-4);
    }
  }
}

TEST_P(HeadKernelsTest, EmbeddingGradientsAreAdded) {
  Matrix w = RandomMatrix(kRows, kColumns, 1);
  const Matrix g = RandomMatrix(kRows, kSamples, 2);
  Matrix dx = RandomMatrix(kSamples, kColumns, 3);
  const Matrix before = dx;
  const auto rows = RowPointers<const float*>(w, kRows, kColumns);
  kernels_->embedding_gradients(false, g.data(), rows.data(), kRows, kSamples, kColumns, dx.data());
  for (std::int64_t b = 0; b < kSamples; ++b) {
    for (std::int64_t d = 0; d < kColumns; ++d) {
      double sum = before[b * kColumns + d];
      for (std::int64_t i = 0; i < kRows; ++i) {
        sum += static_cast<double>(g[i * kSamples + b]) * w[i * kColumns + d];
      }
      EXPECT_NEAR(dx[b * kColumns + d], sum, 1e-4);
    }
  }
}

// Of momentum: SGD, with Nesterov's, and LARS; of the rest one each.
std::vector<RowUpdate> RowUpdates() {
  RowUpdate sgd;
  sgd.decay = 0.01F;
  sgd.momentum = 0.9F;
  sgd.by_momentum = 0.1F;
  RowUpdate nesterov = sgd;
  nesterov.by_momentum = 0.09F;
  nesterov.by_gradient = 0.1F;
  RowUpdate lars = sgd;
  lars.gain = 0.3F;
  lars.by_momentum = 1;
  RowUpdate adam;
  adam.kind = RowUpdate::Kind::kAdamW;
  adam.lr = 0.1F;
  adam.decay = 0.01F;
  adam.beta1 = 0.9F;
  adam.rest1 = 0.1F;
  adam.beta2 = 0.99F;
  adam.rest2 = 0.01F;
  adam.epsilon = 1e-3F;
  adam.inverse_correction1 = 10;
  adam.inverse_correction2 = 100;
  RowUpdate accumulate;
  accumulate.kind = RowUpdate::Kind::kAccumulate;
  return {sgd, nesterov, lars, adam, accumulate};
}

TEST_P(HeadKernelsTest, RowsMoveByTheirGradient) {
  for (const RowUpdate& u : RowUpdates()) {
    Matrix w = RandomMatrix(kRows, kColumns, 1);
    Matrix first = RandomMatrix(kRows, kColumns, 2);
    Matrix second = RandomMatrix(kRows, kColumns, 3);
    for (float& value : second) value *= value;
    Matrix gathered = RandomMatrix(kRows, kColumns, 4);
    const Matrix g = RandomMatrix(kRows, kSamples, 5);
    const Matrix x = RandomMatrix(kSamples, kColumns, 6);
    const Matrix panels = Panels(x, kSamples, kColumns);
    const Matrix radial = RandomMatrix(kRows, 1, 7);
    Matrix squared_norm(kRows);
    const Matrix w0 = w;
    const Matrix first0 = first;
    const Matrix second0 = second;
    const Matrix gathered0 = gathered;
    const auto w_rows = RowPointers<float*>(w, kRows, kColumns);
    const auto first_rows = RowPointers<float*>(first, kRows, kColumns);
    const auto second_rows = RowPointers<float*>(second, kRows, kColumns);
    const auto gathered_rows = RowPointers<float*>(gathered, kRows, kColumns);
    kernels_->update_rows(false, g.data(), kRows, panels.data(), kSamples, kColumns,
                          {w_rows.data(), first_rows.data(), second_rows.data(), radial.data(),
                           squared_norm.data(), gathered_rows.data()},
                          u);
    for (std::int64_t i = 0; i < kRows; ++i) {
      double squares = 0;
      for (std::int64_t d = 0; d < kColumns; ++d) {
        const std::int64_t at = i * kColumns + d;
        double gradient = gathered0[at] - static_cast<double>(radial[i]) * w0[at];
        for (std::int64_t b = 0; b < kSamples; ++b) {
          gradient += static_cast<double>(g[i * kSamples + b]) * x[b * kColumns + d];
        }
        double expected = w0[at];
        double expected_first = first0[at] + gradient;
        if (u.kind == RowUpdate::Kind::kMomentum) {
          const double decayed = gradient + 0.01 * w0[at];
          expected_first = 0.9 * first0[at] + u.gain * decayed;
          expected -= u.by_momentum * expected_first + u.by_gradient * decayed;
        } else if (u.kind == RowUpdate::Kind::kAdamW) {
          expected_first = 0.9 * first0[at] + 0.1 * gradient;
          const double expected_second = 0.99 * second0[at] + 0.01 * gradient * gradient;
          EXPECT_NEAR(second[at], expected_second, 1e-4 * (1 + expected_second));
          expected = expected * (1 - 0.001) -
                     0.1 * (10 * expected_first) / (std::sqrt(100 * expected_second) + 1e-3);
        }
        EXPECT_NEAR(w[at], expected, 2e-4);
        EXPECT_NEAR(first[at], expected_first, 2e-4);
        EXPECT_EQ(gathered[at], 0);
        squares += static_cast<double>(w[at]) * w[at];
      }
      EXPECT_NEAR(squared_norm[i], squares, 1e-4 * squares);
    }
  }
}

// What a rule makes of a negative's logit, and its derivative.
struct Negative {
  double logit;
  double slope;
};

Negative Apply(const NegativeRule& rule, double z, std::int64_t sample) {
  if (rule.kind == NegativeRule::Kind::kFilter && z > rule.threshold) return {0, 0};
  if (rule.kind == NegativeRule::Kind::kCurricular && z > rule.hard[sample]) {
    return {z * (rule.t + z * rule.inverse_scale), rule.t + 2 * z * rule.inverse_scale};
  }
  return {z, 1};
}

TEST_P(HeadKernelsTest, SoftmaxIsThatOfTheRules) {
  const Matrix hard(kSamples, 0.5F);
  NegativeRule filter{NegativeRule::Kind::kFilter, 1.0F, 0, 0, nullptr};
  NegativeRule curricular{NegativeRule::Kind::kCurricular, 0, 0.3F, 1.0F / 8, hard.data()};
  for (const NegativeRule& rule : {NegativeRule{}, filter, curricular}) {
    Matrix z = RandomMatrix(kRows, kSamples, 1);
    for (float& value : z) value *= 4;
    for (std::int64_t b = 0; b < kSamples; b += 3) z[b] = kNoLogit;  // targets
    Matrix largest(kSamples);
    Matrix sum(kSamples);
    kernels_->partial_softmax(z.data(), kRows, kSamples, rule, largest.data(), sum.data());
    Matrix log_sum_exp(kSamples);
    std::vector<double> exact(kSamples);
    for (std::int64_t b = 0; b < kSamples; ++b) {
      for (std::int64_t i = 0; i < kRows; ++i) {
        exact[b] += std::exp(Apply(rule, z[i * kSamples + b], b).logit);
      }
      EXPECT_NEAR(largest[b] + std::log(sum[b]), std::log(exact[b]), 1e-5);
      log_sum_exp[b] = static_cast<float>(std::log(exact[b]));
    }
    log_sum_exp[kSamples - 1] = std::numeric_limits<float>::infinity();  // fills up

    Matrix bound(kRows);
    std::vector<std::int32_t> bin(kRows);
    for (std::int64_t i = 0; i < kRows; ++i) bin[i] = static_cast<std::int32_t>(i % 3);
    Matrix mass_by_bin(3 * kSamples);
    kernels_->row_bounds(z.data(), kRows, kSamples, rule, log_sum_exp.data(), bound.data());
    kernels_->add_mass(z.data(), kRows, kSamples, rule, log_sum_exp.data(), bin.data(),
                       mass_by_bin.data());

    Matrix g = z;
    const Matrix factor = RandomMatrix(kRows, 1, 2);
    Matrix along(kRows);
    Matrix total(kRows);
    Matrix mass(kSamples);
    kernels_->softmax_gradients(g.data(), factor.data(), kRows, kSamples, rule, log_sum_exp.data(),
                                0.5F, along.data(), total.data(), mass.data());
    std::vector<double> expected_mass_by_bin(mass_by_bin.size());
    for (std::int64_t i = 0; i < kRows; ++i) {
      double expected_along = 0;
      double expected_total = 0;
      double expected_bound = kNoLogit;
      for (std::int64_t b = 0; b < kSamples; ++b) {
        const float value = z[i * kSamples + b];
        const Negative negative = Apply(rule, value, b);
        const double p = b == kSamples - 1 ? 0 : std::exp(negative.logit) / exact[b];
        const double d = 0.5 * p * negative.slope;
        EXPECT_NEAR(g[i * kSamples + b], d * factor[i], 1e-5);
        expected_along += d * value;
        expected_total += d;
        expected_mass_by_bin[bin[i] * kSamples + b] += p;
        expected_bound = std::max(expected_bound, negative.logit - log_sum_exp[b]);
      }
      EXPECT_NEAR(along[i], expected_along, 1e-4);
      EXPECT_NEAR(total[i], expected_total, 1e-4);
      EXPECT_NEAR(bound[i], expected_bound, 1e-4);
    }
    for (std::int64_t b = 0; b + 1 < kSamples; ++b) EXPECT_NEAR(mass[b], 1, 1e-5);
    EXPECT_EQ(mass[kSamples - 1], 0);
    for (std::size_t i = 0; i < mass_by_bin.size(); ++i) {
      EXPECT_NEAR(mass_by_bin[i], expected_mass_by_bin[i], 1e-5);
    }
  }
}

float FromBf16(std::uint32_t bits) {
  bits <<= 16U;
  float value = 0;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Pairs are nearest bfloat16 numbers, in order; and their products are those of what they hold.
TEST_P(HeadKernelsTest, PairsOfBfloat16) {
  constexpr std::int64_t kOdd = 37;
  Matrix a = RandomMatrix(2, kOdd, 1);
  Matrix pairs(kOdd);
  kernels_->interleave_bf16(a.data(), a.data() + kOdd, kOdd, pairs.data());
  Matrix narrow(kOdd);
  kernels_->narrow_bf16(a.data(), kOdd, narrow.data());
  const auto half = [](float word, int which) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &word, sizeof bits);
    return FromBf16(which == 0 ? bits & 0xFFFFU : bits >> 16U);
  };
  for (std::int64_t i = 0; i < kOdd; ++i) {
    EXPECT_NEAR(half(pairs[i], 0), a[i], std::abs(a[i]) / 256);
    EXPECT_NEAR(half(pairs[i], 1), a[kOdd + i], std::abs(a[kOdd + i]) / 256);
    EXPECT_NEAR(half(narrow[i], 0), a[2 * i], std::abs(a[2 * i]) / 256);
    EXPECT_NEAR(half(narrow[i], 1), a[2 * i + 1], std::abs(a[2 * i + 1]) / 256);
  }
  kernels_->interleave_bf16(a.data(), nullptr, kOdd, pairs.data());
  EXPECT_EQ(half(pairs[5], 1), 0);

  Matrix left = RandomMatrix(kRows, kColumns, 2);
  const Matrix right = RandomMatrix(kColumns, kSamples, 3);
  Matrix left_words(kRows * kColumns / 2);
  Matrix right_words(kColumns / 2 * kSamples);
  kernels_->narrow_bf16(left.data(), kRows * kColumns / 2, left_words.data());
  for (std::int64_t k = 0; k < kColumns / 2; ++k) {
    kernels_->interleave_bf16(right.data() + 2 * k * kSamples,
                              right.data() + (2 * k + 1) * kSamples, kSamples,
                              right_words.data() + k * kSamples);
  }
  const Matrix panels = Panels(right_words, kColumns / 2, kSamples);
  const Matrix ones(kRows, 1.0F);
  const auto rows = RowPointers<const float*>(left_words, kRows, kColumns / 2);
  const auto next = RowPointers<const float*>(left, kRows, kColumns);
  Matrix z(kRows * kSamples);
  kernels_->logits(true, rows.data(), ones.data(), kRows, next.data(), panels.data(), kSamples,
                   kColumns / 2, z.data());
  for (std::int64_t i = 0; i < kRows; ++i) {
    for (std::int64_t b = 0; b < kSamples; ++b) {
      double sum = 0;
      for (std::int64_t k = 0; k < kColumns; ++k) {
        sum += static_cast<double>(half(left_words[(i * kColumns + k) / 2], k % 2)) *
               half(right_words[k / 2 * kSamples + b], k % 2);
      }
      EXPECT_NEAR(z[i * kSamples + b], sum, 1e-4);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Sets, HeadKernelsTest,
                         testing::Values("avx512_bf16", "avx512", "avx2", "portable"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace fr
