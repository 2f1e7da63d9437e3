#pragma once
// What kernels of the head and of others share.

#include <simt.h>

#include "worker/gpu/gpu_kernels.h"

namespace fr::FR_GPU {

FR_DEVICE std::int64_t RowAt(const GpuRows& tile, std::int64_t i) {
  return tile.row == nullptr ? tile.first + i : tile.row[i];
}

// Two neighbours, the first at an even place of the first plane, as planes (gpu_kernels.h).
FR_DEVICE void StorePlanes(const GpuOperand& out, std::int64_t place, float v0, float v1) {
  for (int plane = 0; plane < out.planes; ++plane) {
    const Bf16Bits low = simt::ToBf16(v0);
    const Bf16Bits high = simt::ToBf16(v1);
    *reinterpret_cast<std::uint32_t*>(out.data + plane * out.plane_stride + place) =
        low | static_cast<std::uint32_t>(high) << 16U;
    v0 -= simt::FromBf16(low);
    v1 -= simt::FromBf16(high);
  }
}

template <class Value>
FR_DEVICE Value WarpSum(Value value) {
  FR_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) value += simt::ShuffleXor(value, mask);
  return value;
}

// Of all kWarps warps of the block, in every thread. `shared` has a value for each warp, and may be
// used for something else afterwards.
template <int kWarps>
FR_DEVICE double BlockSum(double value, char* shared) {
  value = WarpSum(value);
  auto* of_warp = reinterpret_cast<double*>(shared);
  if (simt::ThreadX() % 32 == 0) of_warp[simt::ThreadX() / 32] = value;
  simt::SyncThreads();
  double sum = 0;
  for (int warp = 0; warp < kWarps; ++warp) sum += of_warp[warp];
  simt::SyncThreads();
  return sum;
}

// A thread for each of `size` elements.
inline simt::Grid ElementGrid(std::int64_t size, int threads) {
  return {GpuBlocks(size, threads), 1, 1};
}

// One weight, or bias, with its state moves by gradient g (RowUpdate). `decay` is the rule's, or 0.
FR_DEVICE void MoveWeight(const RowUpdate& update, float decay, float gain, float g, float* w,
                          float* first, float* second) {
  if (update.kind == RowUpdate::Kind::kMomentum) {
    const float gradient = g + decay * *w;
    *first = update.momentum * *first + gain * gradient;
    *w -= update.by_momentum * *first + update.by_gradient * gradient;
    return;
  }
  *first = update.beta1 * *first + update.rest1 * g;
  *second = update.beta2 * *second + update.rest2 * g * g;
  const float root = sqrtf(*second * update.inverse_correction2) + update.epsilon;
  *w = (1 - update.lr * decay) * *w - update.lr * *first * update.inverse_correction1 / root;
}

}  // namespace fr::FR_GPU
