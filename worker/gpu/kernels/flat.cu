// Passes over flat buffers: optimizers, moving averages, norms; and the network's input.

#include "worker/gpu/kernels/kernels.h"
#include "worker/gpu/kernels/rows.h"

namespace fr::FR_GPU {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;

// A block for each piece.
FR_KERNEL(kThreads, 4) MomentumKernel(const GpuMomentumPass work) {
  const std::int64_t piece = simt::BlockX();
  const std::int32_t parameter = work.pieces.parameter[piece];
  const MomentumRule& r = work.rule;
  const float decay = work.decay[parameter];
  const float gain = work.gain == nullptr ? r.gain : work.gain[parameter];
  const std::int64_t end = work.pieces.end[piece];
  for (std::int64_t i = work.pieces.begin[piece] + simt::ThreadX(); i < end; i += kThreads) {
    const float gradient = r.scale * work.g[i] + decay * work.w[i];
    const float v = r.momentum * work.v[i] + gain * gradient;
    work.v[i] = v;
    work.w[i] -= r.by_momentum * v + r.by_gradient * gradient;
    work.g[i] = 0;
  }
}

FR_KERNEL(kThreads, 4) AdamKernel(const GpuAdamPass work) {
  const std::int64_t piece = simt::BlockX();
  const AdamRule& r = work.rule;
  const float keep = work.keep[work.pieces.parameter[piece]];
  const std::int64_t end = work.pieces.end[piece];
  for (std::int64_t i = work.pieces.begin[piece] + simt::ThreadX(); i < end; i += kThreads) {
    const float gradient = r.scale * work.g[i];
    const float m = r.beta1 * work.m[i] + r.rest1 * gradient;
    const float v = r.beta2 * work.v[i] + r.rest2 * gradient * gradient;
    work.m[i] = m;
    work.v[i] = v;
    work.w[i] = keep * work.w[i] - r.rate * m / (sqrtf(v) * r.root + r.epsilon);
    work.g[i] = 0;
  }
}

struct MoveTowardsWork {
  float* average;
  const float* w;
  std::int64_t size;
  float share;
};

FR_KERNEL(kThreads, 4) MoveTowardsKernel(const MoveTowardsWork work) {
  const std::int64_t i = simt::BlockX() * kThreads + simt::ThreadX();
  if (i < work.size) work.average[i] += work.share * (work.w[i] - work.average[i]);
}

// Of BlockSum.
constexpr int kSumShared = kWarps * static_cast<int>(sizeof(double));

struct SumSquaresWork {
  const float* x;
  std::int64_t size;
  double* parts;
};

FR_KERNEL(kThreads, 4) SumSquaresKernel(const SumSquaresWork work) {
  const std::int64_t each = (work.size + kSquareParts - 1) / kSquareParts;
  const std::int64_t begin = simt::BlockX() * each;
  const std::int64_t end = begin + each < work.size ? begin + each : work.size;
  double sum = 0;
  for (std::int64_t i = begin + simt::ThreadX(); i < end; i += kThreads) {
    const auto value = static_cast<double>(work.x[i]);
    sum += value * value;
  }
  sum = BlockSum<kWarps>(sum, simt::Shared());
  if (simt::ThreadX() == 0) work.parts[simt::BlockX()] = sum;
}

struct PieceSquaresWork {
  GpuPieces pieces;
  const float* a;
  const float* b;
  double* squares;
};

FR_KERNEL(kThreads, 4) PieceSquaresKernel(const PieceSquaresWork work) {
  const std::int64_t piece = simt::BlockX();
  const std::int64_t end = work.pieces.end[piece];
  double of_a = 0;
  double of_b = 0;
  for (std::int64_t i = work.pieces.begin[piece] + simt::ThreadX(); i < end; i += kThreads) {
    const auto a = static_cast<double>(work.a[i]);
    const auto b = static_cast<double>(work.b[i]);
    of_a += a * a;
    of_b += b * b;
  }
  of_a = BlockSum<kWarps>(of_a, simt::Shared());
  of_b = BlockSum<kWarps>(of_b, simt::Shared());
  if (simt::ThreadX() != 0) return;
  work.squares[2 * piece] = of_a;
  work.squares[2 * piece + 1] = of_b;
}

FR_KERNEL(kThreads, 4) PixelsKernel(const GpuPixels work) {
  const std::int64_t i = simt::BlockX() * kThreads + simt::ThreadX();
  if (i >= work.size) return;
  const float value = (static_cast<float>(work.pixels[i]) - work.mean) / work.std;
  if (work.bf16) {
    static_cast<Bf16Bits*>(work.out)[i] = simt::ToBf16(value);
  } else {
    static_cast<float*>(work.out)[i] = value;
  }
}

}  // namespace

void MomentumPass(const GpuMomentumPass& work, GpuStream stream) {
  simt::Launch("momentum_pass", MomentumKernel, work, {work.pieces.pieces, 1, 1}, kThreads, 0,
               stream);
}

void AdamPass(const GpuAdamPass& work, GpuStream stream) {
  simt::Launch("adam_pass", AdamKernel, work, {work.pieces.pieces, 1, 1}, kThreads, 0, stream);
}

void MoveTowards(float* average, const float* w, std::int64_t size, float share, GpuStream stream) {
  simt::Launch("move_towards", MoveTowardsKernel, MoveTowardsWork{average, w, size, share},
               ElementGrid(size, kThreads), kThreads, 0, stream);
}

void SumSquares(const float* x, std::int64_t size, double* parts, GpuStream stream) {
  simt::Launch("sum_squares", SumSquaresKernel, SumSquaresWork{x, size, parts},
               {kSquareParts, 1, 1}, kThreads, kSumShared, stream);
}

void PieceSquares(const GpuPieces& pieces, const float* a, const float* b, double* squares,
                  GpuStream stream) {
  simt::Launch("piece_squares", PieceSquaresKernel, PieceSquaresWork{pieces, a, b, squares},
               {pieces.pieces, 1, 1}, kThreads, kSumShared, stream);
}

void Pixels(const GpuPixels& work, GpuStream stream) {
  simt::Launch("pixels", PixelsKernel, work, ElementGrid(work.size, kThreads), kThreads, 0, stream);
}

}  // namespace fr::FR_GPU
