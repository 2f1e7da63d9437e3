// What moves the head's rows, by every rule, beside the rules' formulas (RowUpdate) in double
// precision; and sums over rows.

#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/worker/gpu/operands.h"
#include "worker/gpu/kernels/kernels.h"

namespace fr {
namespace {

const GpuKernels& kernels = emulated_gpu::kKernels;

constexpr double kTolerance = 2e-6;

// A shard's weights, biases and all that moves with them.
struct Shard {
  Shard(std::int64_t rows, std::int64_t columns)
      : w(RandomMatrix(rows, columns, 1, 1)),
        first(RandomMatrix(rows, columns, 1, 2)),
        second(RandomMatrix(rows, columns, 1, 3)),
        gradient(RandomMatrix(rows, columns, 1, 4)),
        bias(RandomMatrix(rows, 1, 1, 5)),
        bias_first(RandomMatrix(rows, 1, 1, 6)),
        bias_second(RandomMatrix(rows, 1, 1, 7)),
        bias_gradient(RandomMatrix(rows, 1, 1, 8)) {
    for (float& v : second.value) v = v * v;
    for (float& v : bias_second.value) v = v * v;
  }

  // The second moments are AdamW's alone.
  GpuRowState State(const RowUpdate& update, bool biases) {
    const bool adam = update.kind == RowUpdate::Kind::kAdamW;
    GpuRowState state;
    state.w = w.value.data();
    state.first = first.value.data();
    state.second = adam ? second.value.data() : nullptr;
    state.gradient = gradient.value.data();
    if (!biases) return state;
    state.bias = bias.value.data();
    state.bias_first = bias_first.value.data();
    state.bias_second = adam ? bias_second.value.data() : nullptr;
    state.bias_gradient = bias_gradient.value.data();
    return state;
  }

  Matrix w, first, second, gradient;
  Matrix bias, bias_first, bias_second, bias_gradient;
};

// SGD with Nesterov's momentum and LARS's gains, which biases do not have.
RowUpdate Momentum() {
  RowUpdate update;
  update.decay = 0.1F;
  update.momentum = 0.9F;
  update.gain = 0.02F;
  update.bias_gain = 0.5F;
  update.by_momentum = 0.3F;
  update.by_gradient = 0.05F;
  return update;
}

RowUpdate AdamW() {
  RowUpdate update;
  update.kind = RowUpdate::Kind::kAdamW;
  update.lr = 0.01F;
  update.decay = 0.5F;
  update.beta1 = 0.9F;
  update.rest1 = 0.1F;
  update.beta2 = 0.99F;
  update.rest2 = 0.01F;
  update.epsilon = 0.1F;
  update.inverse_correction1 = 2;
  update.inverse_correction2 = 5;
  return update;
}

RowUpdate Accumulate() {
  RowUpdate update;
  update.kind = RowUpdate::Kind::kAccumulate;
  return update;
}

struct Weight {
  double w, first, second;
};

// One weight, moved by the gradient g.
Weight Moved(const RowUpdate& u, double decay, double gain, double g, const Weight& before) {
  Weight after = before;
  if (u.kind == RowUpdate::Kind::kMomentum) {
    const double gradient = g + decay * before.w;
    after.first = u.momentum * before.first + gain * gradient;
    after.w = before.w - u.by_momentum * after.first - u.by_gradient * gradient;
    return after;
  }
  after.first = u.beta1 * before.first + u.rest1 * g;
  after.second = u.beta2 * before.second + u.rest2 * g * g;
  const double step = after.first * u.inverse_correction1 /
                      (std::sqrt(after.second * u.inverse_correction2) + u.epsilon);
  after.w = before.w - u.lr * decay * before.w - u.lr * step;
  return after;
}

// All of the row, each weight moved by gradient(column).
template <class Gradient>
void ExpectMovedRow(const Shard& before, const Shard& after, const RowUpdate& update,
                    std::int64_t row, const Gradient& gradient) {
  for (std::int64_t c = 0; c < before.w.columns; ++c) {
    const Weight old{before.w(row, c), before.first(row, c), before.second(row, c)};
    const Weight now = Moved(update, update.decay, update.gain, gradient(c), old);
    ASSERT_NEAR(after.w(row, c), now.w, kTolerance) << row << " " << c;
    ASSERT_NEAR(after.first(row, c), now.first, kTolerance) << row << " " << c;
    ASSERT_NEAR(after.second(row, c), now.second, kTolerance * (1 + now.second));
  }
}

// Biases have no weight decay.
void ExpectMovedBias(const Shard& before, const Shard& after, const RowUpdate& update,
                     std::int64_t row, double gradient) {
  const Weight old{before.bias(row, 0), before.bias_first(row, 0), before.bias_second(row, 0)};
  const Weight now = Moved(update, 0, update.bias_gain, gradient, old);
  EXPECT_NEAR(after.bias(row, 0), now.w, kTolerance) << row;
  EXPECT_NEAR(after.bias_first(row, 0), now.first, kTolerance) << row;
  EXPECT_NEAR(after.bias_second(row, 0), now.second, kTolerance) << row;
}

void ExpectSameWeights(const Shard& before, const Shard& after, std::int64_t row) {
  for (std::int64_t c = 0; c < before.w.columns; ++c) {
    ASSERT_EQ(after.w(row, c), before.w(row, c)) << row << " " << c;
    ASSERT_EQ(after.first(row, c), before.first(row, c)) << row << " " << c;
    ASSERT_EQ(after.second(row, c), before.second(row, c)) << row << " " << c;
  }
}

void ExpectSameBias(const Shard& before, const Shard& after, std::int64_t row) {
  EXPECT_EQ(after.bias(row, 0), before.bias(row, 0)) << row;
  EXPECT_EQ(after.bias_first(row, 0), before.bias_first(row, 0)) << row;
  EXPECT_EQ(after.bias_second(row, 0), before.bias_second(row, 0)) << row;
}

// A tile of a shard's rows: neighbours, or a list of every third one.
class HeadRows : public testing::TestWithParam<bool> {
 protected:
  static constexpr std::int64_t kRows = 37;
  static constexpr std::int64_t kColumns = 96;
  static constexpr std::int64_t kShardRows = 120;
  static constexpr std::int64_t kNotInTile = -1;

  HeadRows() : place_(kShardRows, kNotInTile) {
    for (std::int64_t i = 0; i < kRows; ++i) rows_.push_back(GetParam() ? 3 * i + 1 : 11 + i);
    for (std::int64_t i = 0; i < kRows; ++i) place_[rows_[i]] = i;
    tile_.rows = kRows;
    tile_.columns = kColumns;
    tile_.first = GetParam() ? 0 : 11;
    tile_.row = GetParam() ? rows_.data() : nullptr;
  }

  void CheckMoves(const RowUpdate& update, bool accumulated, bool biases) {
    Shard after = before_;
    kernels.move_rows({tile_, accumulated, after.State(update, biases), update}, nullptr);
    for (std::int64_t row = 0; row < kShardRows; ++row) {
      const bool moves = place_[row] != kNotInTile;
      if (!moves) {
        ExpectSameWeights(before_, after, row);
      } else {
        ExpectMovedRow(before_, after, update, row, [&](std::int64_t c) {
          return accumulated ? double{before_.gradient(row, c)} : 0.0;
        });
      }
      for (std::int64_t c = 0; c < kColumns; ++c) {
        ASSERT_EQ(after.gradient(row, c), moves && accumulated ? 0 : before_.gradient(row, c));
      }
      if (moves && biases) {
        ExpectMovedBias(before_, after, update, row,
                        accumulated ? before_.bias_gradient(row, 0) : 0);
      } else {
        ExpectSameBias(before_, after, row);
      }
      EXPECT_EQ(after.bias_gradient(row, 0),
                moves && biases && accumulated ? 0 : before_.bias_gradient(row, 0));
    }
  }

  std::vector<std::int64_t> rows_;   // [kRows] of the shard
  std::vector<std::int64_t> place_;  // [kShardRows] in the tile
  GpuRows tile_;
  const Shard before_{kShardRows, kColumns};
};

// Rows that were skipped go on by their momentum and their decay.
TEST_P(HeadRows, SkippedRowsMoveByAGradientOfZero) {
  for (const bool biases : {false, true}) {
    CheckMoves(Momentum(), false, biases);
    CheckMoves(AdamW(), false, biases);
  }
}

TEST_P(HeadRows, AccumulatedGradientsMoveTheRowsAndAreUsedUp) {
  for (const bool biases : {false, true}) {
    CheckMoves(Momentum(), true, biases);
    CheckMoves(AdamW(), true, biases);
  }
}

// G = transpose(g) x - radial w, of operands and then by every rule.
class HeadRowProducts : public HeadRows {
 protected:
  static constexpr std::int64_t kSamples = 64;

  HeadRowProducts() : g_(kRows, kSamples, 3), x_(kSamples, kColumns, 3), radial_(kRows) {
    const Matrix g = RandomMatrix(kRows, kSamples, 0.1, 11);
    const Matrix x = RandomMatrix(kSamples, kColumns, 0.1, 12);
    kernels.narrow(g.value.data(), kRows, kSamples, g_.view(), nullptr);
    kernels.narrow(x.value.data(), kSamples, kColumns, x_.view(), nullptr);
    for (std::int64_t i = 0; i < kRows; ++i) radial_[i] = 0.01F * static_cast<float>(i - 10);
  }

  double Gradient(std::int64_t i, std::int64_t c) const {
    double sum = -double{radial_[i]} * before_.w(rows_[i], c);
    for (std::int64_t b = 0; b < kSamples; ++b) sum += g_(i, b) * x_(b, c);
    return sum;
  }

  Shard Run(const RowUpdate& update) const {
    Shard after = before_;
    kernels.row_products(
        {tile_, g_.view(), x_.view(), radial_.data(), after.State(update, true), update}, nullptr);
    for (std::int64_t row = 0; row < kShardRows; ++row) ExpectSameBias(before_, after, row);
    return after;
  }

  Operand g_;
  Operand x_;
  std::vector<float> radial_;
};

TEST_P(HeadRowProducts, MoveTheRowsByMomentumOrByAdamW) {
  for (const RowUpdate& update : {Momentum(), AdamW()}) {
    const Shard after = Run(update);
    EXPECT_EQ(after.gradient.value, before_.gradient.value);
    for (std::int64_t row = 0; row < kShardRows; ++row) {
      const std::int64_t i = place_[row];
      if (i == kNotInTile) {
        ExpectSameWeights(before_, after, row);
      } else {
        ExpectMovedRow(before_, after, update, row, [&](std::int64_t c) { return Gradient(i, c); });
      }
    }
  }
}

TEST_P(HeadRowProducts, AreAddedToTheGradientWhenTheyAccumulate) {
  const Shard after = Run(Accumulate());
  for (std::int64_t row = 0; row < kShardRows; ++row) {
    ExpectSameWeights(before_, after, row);
    const std::int64_t i = place_[row];
    for (std::int64_t c = 0; c < kColumns; ++c) {
      const double added = i == kNotInTile ? 0 : Gradient(i, c);
      ASSERT_NEAR(after.gradient(row, c), before_.gradient(row, c) + added, kTolerance);
    }
  }
}

// Sums over the blocks of samples; the biases move by `total`.
TEST_P(HeadRows, RowSumsMoveTheBiasesByEveryRule) {
  constexpr std::int64_t kBlocks = 3;
  const Matrix along = RandomMatrix(kBlocks, kRows, 1, 21);
  const Matrix total = RandomMatrix(kBlocks, kRows, 1, 22);
  const std::vector<float> inverse_norm(kRows, 0.5F);
  for (const RowUpdate& update : {Momentum(), AdamW(), Accumulate()}) {
    Shard after = before_;
    std::vector<float> radial(kRows, NAN);
    kernels.row_sums({tile_, along.value.data(), total.value.data(), kBlocks, inverse_norm.data(),
                      radial.data(), after.State(update, true), update},
                     nullptr);
    for (std::int64_t row = 0; row < kShardRows; ++row) {
      ExpectSameWeights(before_, after, row);
      const std::int64_t i = place_[row];
      if (i == kNotInTile) {
        ExpectSameBias(before_, after, row);
        EXPECT_EQ(after.bias_gradient(row, 0), before_.bias_gradient(row, 0));
        continue;
      }
      const double sum = double{total(0, i)} + total(1, i) + total(2, i);
      EXPECT_NEAR(radial[i], (double{along(0, i)} + along(1, i) + along(2, i)) / 4, kTolerance);
      if (update.kind == RowUpdate::Kind::kAccumulate) {
        ExpectSameBias(before_, after, row);
        EXPECT_NEAR(after.bias_gradient(row, 0), before_.bias_gradient(row, 0) + sum, kTolerance);
      } else {
        ExpectMovedBias(before_, after, update, row, sum);
        EXPECT_EQ(after.bias_gradient(row, 0), before_.bias_gradient(row, 0));
      }
    }
  }
}

TEST_P(HeadRows, RowSquaresAreOfWeightsAndGradients) {
  std::vector<double> squares(2 * kRows + 1, -1.0);
  kernels.row_squares(
      {tile_, before_.w.value.data(), before_.gradient.value.data(), squares.data()}, nullptr);
  for (std::int64_t i = 0; i < kRows; ++i) {
    double weight = 0;
    double gradient = 0;
    for (std::int64_t c = 0; c < kColumns; ++c) {
      weight += std::pow(double{before_.w(rows_[i], c)}, 2);
      gradient += std::pow(double{before_.gradient(rows_[i], c)}, 2);
    }
    EXPECT_NEAR(squares[2 * i], weight, 1e-12 * weight);
    EXPECT_NEAR(squares[2 * i + 1], gradient, 1e-12 * gradient);
  }
  EXPECT_EQ(squares[2 * kRows], -1) << "beyond the end";
}

std::string NameOf(const testing::TestParamInfo<bool>& info) {
  return info.param ? "Listed" : "Neighbours";
}
INSTANTIATE_TEST_SUITE_P(Tiles, HeadRows, testing::Bool(), NameOf);
INSTANTIATE_TEST_SUITE_P(Tiles, HeadRowProducts, testing::Bool(), NameOf);

TEST(SumParts, AreSummedInDoublePrecision) {
  constexpr std::int64_t kSize = 300;
  for (const std::int64_t parts : {0, 1, 7}) {
    // 1, and many that float32 would lose beside it.
    std::vector<float> partial(static_cast<std::size_t>(parts * kSize), 0x1p-30F);
    for (std::int64_t i = 0; parts > 0 && i < kSize; ++i) partial[i] = static_cast<float>(i);
    std::vector<float> out(kSize + 1, -1.0F);
    std::vector<double> out64(kSize + 1, -1.0);
    GpuSumParts work;
    work.partial = partial.data();
    work.parts = parts;
    work.size = kSize;
    work.out = out.data();
    kernels.sum_parts(work, nullptr);
    work.out = nullptr;
    work.out64 = out64.data();
    kernels.sum_parts(work, nullptr);
    for (std::int64_t i = 0; i < kSize; ++i) {
      const double sum = parts == 0 ? 0 : static_cast<double>(i) + 0x1p-30 * (parts - 1.0);
      EXPECT_EQ(out64[i], sum) << parts << " parts, " << i;
      EXPECT_EQ(out[i], static_cast<float>(sum)) << parts << " parts, " << i;
    }
    EXPECT_EQ(out[kSize], -1) << "beyond the end";
    EXPECT_EQ(out64[kSize], -1) << "beyond the end";
  }
}

}  // namespace
}  // namespace fr
