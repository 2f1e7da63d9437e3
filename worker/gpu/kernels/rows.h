#pragma once
// What kernels of the head and of others share.

#include <simt.h>

#include "worker/gpu/gpu_kernels.h"

namespace fr::FR_GPU {

FR_DEVICE std::int64_t RowAt(const GpuRows& tile, std::int64_t i) {
  return tile.row == nullptr ? tile.first + i : tile.row[i];
}

// Value `v` as planes (gpu_kernels.h) at `place` of the first one.
FR_DEVICE void StorePlanes(const GpuOperand& out, std::int64_t place, float v) {
  for (int plane = 0; plane < out.planes; ++plane) {
    const Bf16Bits bits = simt::ToBf16(v);
    out.data[plane * out.plane_stride + place] = bits;
    v -= simt::FromBf16(bits);
  }
}

// Two neighbours, the first at an even place.
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

// Splits `count` into blocks of `size`.
inline std::int64_t BlocksFor(std::int64_t count, std::int64_t size) {
  return (count + size - 1) / size;
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
