// What moves the head's rows, and what reads them whole.

#include "common/base/random.h"
#include "worker/gpu/kernels/kernels.h"
#include "worker/gpu/kernels/product.h"
#include "worker/gpu/kernels/rows.h"

namespace fr::FR_GPU {
namespace {

// Kernels with a warp for each row.
constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;

FR_DEVICE std::int64_t OwnRow() { return simt::BlockX() * kWarps + simt::ThreadX() / 32; }
FR_DEVICE int Lane() { return simt::ThreadX() % 32; }

simt::Grid RowGrid(std::int64_t rows) { return {GpuBlocks(rows, kWarps), 1, 1}; }

FR_KERNEL(kThreads, 4) NarrowRowsKernel(const GpuNarrowRows work) {
  const std::int64_t i = OwnRow();
  const bool there = i < work.tile.rows;
  float squares = 0;
  if (there) {
    const float* w = work.w + RowAt(work.tile, i) * work.tile.columns;
    for (std::int64_t c = 2 * Lane(); c < work.tile.columns; c += 64) {
      const float v0 = w[c];
      const float v1 = w[c + 1];
      squares += v0 * v0 + v1 * v1;
      StorePlanes(work.out, i * work.tile.columns + c, v0, v1);
    }
  }
  squares = WarpSum(squares);
  if (!there || Lane() != 0) return;
  const float inverse = work.normalised ? 1 / fmaxf(sqrtf(squares), kMinRowNorm) : 1.0F;
  work.factor[i] = work.scale * inverse;
  work.inverse_norm[i] = inverse;
}

struct NarrowWork {
  const float* x;
  std::int64_t rows;
  std::int64_t columns_in;
  GpuOperand out;
};

FR_KERNEL(kThreads, 4) NarrowKernel(const NarrowWork work) {
  const std::int64_t i = OwnRow();
  if (i >= work.out.rows) return;
  const auto value = [&](std::int64_t c) {
    return i < work.rows && c < work.columns_in ? work.x[i * work.columns_in + c] : 0.0F;
  };
  for (std::int64_t c = 2 * Lane(); c < work.out.columns; c += 64) {
    StorePlanes(work.out, i * work.out.columns + c, value(c), value(c + 1));
  }
}

// Summed in float64: in float32 the lengths would be off by 1e-7, an angle of 1e-3 by a hundredth
// of itself.
FR_KERNEL(kThreads, 4) TargetLogitsKernel(const GpuTargetLogits work) {
  const std::int64_t target = OwnRow();
  const bool there = target < work.num_targets;
  const float* x = work.x + (there ? work.sample[target] : 0) * work.x_columns;
  double best = -simt::Infinity();
  std::int64_t best_row = 0;
  for (int center = 0; center < work.sub_centers; ++center) {
    const std::int64_t row = (there ? work.identity[target] : 0) * work.sub_centers + center;
    const float* w = work.w + row * work.columns;
    double product = 0;
    double w_squares = 0;
    double x_squares = 0;
    for (std::int64_t c = Lane(); there && c < work.x_columns; c += 32) {
      const auto a = static_cast<double>(w[c]);
      const auto b = static_cast<double>(x[c]);
      product += a * b;
      w_squares += a * a;
      x_squares += b * b;
    }
    double z = WarpSum(product) * work.scale;
    w_squares = WarpSum(w_squares);
    x_squares = WarpSum(x_squares);
    const auto shortest = static_cast<double>(kMinRowNorm);
    if (work.normalised_rows) z /= fmax(sqrt(w_squares), shortest);
    if (work.unit_samples) z /= fmax(sqrt(x_squares), shortest);
    if (there && work.bias != nullptr) z += static_cast<double>(work.bias[row]);
    if (z > best) {
      best = z;
      best_row = row;
    }
  }
  if (!there || Lane() != 0) return;
  work.z[target] = best;
  work.best_row[target] = best_row;
}

FR_KERNEL(kThreads, 4) RowSquaresKernel(const GpuRowSquares work) {
  const std::int64_t i = OwnRow();
  const bool there = i < work.tile.rows;
  double weight = 0;
  double gradient = 0;
  if (there) {
    const std::int64_t place = RowAt(work.tile, i) * work.tile.columns;
    for (std::int64_t c = Lane(); c < work.tile.columns; c += 32) {
      const auto w = static_cast<double>(work.w[place + c]);
      const auto g = static_cast<double>(work.gradient[place + c]);
      weight += w * w;
      gradient += g * g;
    }
  }
  weight = WarpSum(weight);
  gradient = WarpSum(gradient);
  if (!there || Lane() != 0) return;
  work.squares[2 * i] = weight;
  work.squares[2 * i + 1] = gradient;
}

FR_DEVICE void MoveBias(const GpuRowState& state, const RowUpdate& update, std::int64_t row,
                        float gradient) {
  if (update.kind == RowUpdate::Kind::kAccumulate) {
    state.bias_gradient[row] += gradient;
    return;
  }
  MoveWeight(update, 0, update.bias_gain, gradient, state.bias + row, state.bias_first + row,
             state.bias_second + row);
}

FR_KERNEL(kThreads, 4) RowSumsKernel(const GpuRowSums work) {
  const std::int64_t i = simt::BlockX() * kThreads + simt::ThreadX();
  if (i >= work.tile.rows) return;
  float along = 0;
  float total = 0;
  for (std::int64_t block = 0; block < work.sample_blocks; ++block) {
    along += work.along[block * work.tile.rows + i];
    total += work.total[block * work.tile.rows + i];
  }
  const float inverse = work.inverse_norm == nullptr ? 0.0F : work.inverse_norm[i];
  work.radial[i] = along * inverse * inverse;
  if (work.state.bias != nullptr) {
    MoveBias(work.state, work.update, RowAt(work.tile, i), total);
  }
}

struct alignas(8) Two {
  float v[2];
};
FR_DEVICE Two& TwoAt(float* values, std::int64_t place) {
  return *reinterpret_cast<Two*>(values + place);
}

// Two neighbours at once, by g beyond the weight decay, which is the rule's: this is what all of
// the head's weights go through in every step, and memory is its price.
FR_DEVICE void MoveTwoAt(const GpuRowState& state, const RowUpdate& update, std::int64_t place,
                         const Two& g) {
  if (update.kind == RowUpdate::Kind::kAccumulate) {
    Two sum = TwoAt(state.gradient, place);
    sum.v[0] += g.v[0];
    sum.v[1] += g.v[1];
    TwoAt(state.gradient, place) = sum;
    return;
  }
  Two w = TwoAt(state.w, place);
  Two first = TwoAt(state.first, place);
  Two second = {{0, 0}};
  if (state.second != nullptr) second = TwoAt(state.second, place);
  FR_UNROLL
  for (int i = 0; i < 2; ++i) {
    MoveWeight(update, update.decay, update.gain, g.v[i], &w.v[i], &first.v[i], &second.v[i]);
  }
  TwoAt(state.w, place) = w;
  TwoAt(state.first, place) = first;
  if (state.second != nullptr) TwoAt(state.second, place) = second;
}

FR_KERNEL(kProductThreads, 2) RowProductsKernel(const GpuRowProducts work) {
  const std::int64_t first_row = simt::BlockX() * kSide;
  const std::int64_t first_column = simt::BlockY() * kSide;
  Product product;
  product.Clear();
  const Side g{work.g.data, work.g.plane_stride, work.g.columns, first_row, work.tile.rows};
  const Side x{work.x.data, work.x.plane_stride, work.x.columns, first_column, work.x.columns};
  product.Add<Along::kRow, Along::kColumn>(g, x, work.g.planes, 0, work.x.rows, simt::Shared());
  FR_UNROLL
  for (int m = 0; m < 4; ++m) {
    FR_UNROLL
    for (int half = 0; half < 2; ++half) {
      const std::int64_t i = first_row + Product::RowOf(m, half);
      if (i >= work.tile.rows) continue;
      const float radial = work.radial[i];
      const std::int64_t row = RowAt(work.tile, i) * work.tile.columns;
      FR_UNROLL
      for (int n = 0; n < 4; ++n) {
        const std::int64_t column = first_column + Product::ColumnOf(n);
        if (column >= work.tile.columns) continue;
        const std::int64_t place = row + column;
        const Two w = TwoAt(work.state.w, place);
        const float* sum = &product.value[m][n][2 * half];
        MoveTwoAt(work.state, work.update, place,
                  {{sum[0] - radial * w.v[0], sum[1] - radial * w.v[1]}});
      }
    }
  }
}

FR_KERNEL(kThreads, 4) MoveRowsKernel(const GpuRowMoves work) {
  const std::int64_t i = OwnRow();
  if (i >= work.tile.rows) return;
  const std::int64_t row = RowAt(work.tile, i);
  for (std::int64_t c = 2 * Lane(); c < work.tile.columns; c += 64) {
    const std::int64_t place = row * work.tile.columns + c;
    Two g = {{0, 0}};
    if (work.accumulated) {
      g = TwoAt(work.state.gradient, place);
      TwoAt(work.state.gradient, place) = {{0, 0}};
    }
    MoveTwoAt(work.state, work.update, place, g);
  }
  if (work.state.bias == nullptr || Lane() != 0) return;
  float g = 0;
  if (work.accumulated) {
    g = work.state.bias_gradient[row];
    work.state.bias_gradient[row] = 0;
  }
  MoveBias(work.state, work.update, row, g);
}

FR_KERNEL(kProductThreads, 2) EmbeddingGradientsKernel(const GpuEmbeddingGradients work) {
  const std::int64_t first_sample = simt::BlockX() * kSide;
  const std::int64_t first_column = simt::BlockY() * kSide;
  const std::int64_t each = GpuRounded(GpuBlocks(work.g.rows, work.splits), kSlice);
  const std::int64_t begin = simt::BlockZ() * each;
  const std::int64_t end = begin + each < work.g.rows ? begin + each : work.g.rows;
  if (begin >= end) return;
  Product product;
  product.Clear();
  const Side g{work.g.data, work.g.plane_stride, work.g.columns, first_sample, work.g.columns};
  const Side w{work.w.data, work.w.plane_stride, work.w.columns, first_column, work.w.columns};
  product.Add<Along::kColumn, Along::kColumn>(g, w, work.g.planes, begin, end, simt::Shared());
  float* partial = work.partial + simt::BlockZ() * work.g.columns * work.w.columns;
  FR_UNROLL
  for (int m = 0; m < 4; ++m) {
    FR_UNROLL
    for (int half = 0; half < 2; ++half) {
      const std::int64_t sample = first_sample + Product::RowOf(m, half);
      if (sample >= work.g.columns) continue;
      FR_UNROLL
      for (int n = 0; n < 4; ++n) {
        const std::int64_t column = first_column + Product::ColumnOf(n);
        if (column >= work.w.columns) continue;
        float* sum = partial + sample * work.w.columns + column;
        sum[0] += product.value[m][n][2 * half];
        sum[1] += product.value[m][n][2 * half + 1];
      }
    }
  }
}

FR_KERNEL(kThreads, 4) SumPartsKernel(const GpuSumParts work) {
  const std::int64_t i = simt::BlockX() * kThreads + simt::ThreadX();
  if (i >= work.size) return;
  double sum = 0;
  for (std::int64_t part = 0; part < work.parts; ++part) {
    sum += static_cast<double>(work.partial[part * work.size + i]);
  }
  if (work.out != nullptr) work.out[i] = static_cast<float>(sum);
  if (work.out64 != nullptr) work.out64[i] = sum;
}

FR_KERNEL(kThreads, 4) SampleKernel(const GpuSample work) {
  const std::int64_t i = simt::BlockX() * kThreads + simt::ThreadX();
  if (i >= work.size) return;
  const std::uint64_t draw = MixKeys(work.key, static_cast<std::uint64_t>(work.first + i)) >> 11U;
  work.takes_part[i] = draw < work.limit ? 1 : 0;
}

}  // namespace

void NarrowRows(const GpuNarrowRows& work, GpuStream stream) {
  simt::Launch("narrow_rows", NarrowRowsKernel, work, RowGrid(work.tile.rows), kThreads, 0, stream);
}

void Narrow(const float* x, std::int64_t rows, std::int64_t columns_in, const GpuOperand& out,
            GpuStream stream) {
  simt::Launch("narrow", NarrowKernel, NarrowWork{x, rows, columns_in, out}, RowGrid(out.rows),
               kThreads, 0, stream);
}

void TargetLogits(const GpuTargetLogits& work, GpuStream stream) {
  simt::Launch("target_logits", TargetLogitsKernel, work, RowGrid(work.num_targets), kThreads, 0,
               stream);
}

void RowSquares(const GpuRowSquares& work, GpuStream stream) {
  simt::Launch("row_squares", RowSquaresKernel, work, RowGrid(work.tile.rows), kThreads, 0, stream);
}

void RowSums(const GpuRowSums& work, GpuStream stream) {
  simt::Launch("row_sums", RowSumsKernel, work, ElementGrid(work.tile.rows, kThreads), kThreads, 0,
               stream);
}

void RowProducts(const GpuRowProducts& work, GpuStream stream) {
  simt::Launch("row_products", RowProductsKernel, work,
               {GpuBlocks(work.tile.rows, kSide), GpuBlocks(work.tile.columns, kSide), 1},
               kProductThreads, kProductShared, stream);
}

void MoveRows(const GpuRowMoves& work, GpuStream stream) {
  simt::Launch("move_rows", MoveRowsKernel, work, RowGrid(work.tile.rows), kThreads, 0, stream);
}

void EmbeddingGradients(const GpuEmbeddingGradients& work, GpuStream stream) {
  simt::Launch("embedding_gradients", EmbeddingGradientsKernel, work,
               {GpuBlocks(work.g.columns, kSide), GpuBlocks(work.w.columns, kSide), work.splits},
               kProductThreads, kProductShared, stream);
}

void Sample(const GpuSample& work, GpuStream stream) {
  simt::Launch("sample", SampleKernel, work, ElementGrid(work.size, kThreads), kThreads, 0, stream);
}

void SumParts(const GpuSumParts& work, GpuStream stream) {
  simt::Launch("sum_parts", SumPartsKernel, work, ElementGrid(work.size, kThreads), kThreads, 0,
               stream);
}

}  // namespace fr::FR_GPU
