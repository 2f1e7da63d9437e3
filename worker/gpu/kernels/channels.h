#pragma once
// Neighbouring channels of a channels-last row, as bfloat16 or float32 in memory and float32 in
// registers, sixteen bytes at a time.

#include <simt.h>

#include "worker/gpu/gpu_kernels.h"

namespace fr::FR_GPU {

struct alignas(16) Words {
  std::uint32_t word[4];
};

// kWidth neighbouring channels of a row.
template <int kWidth>
struct Values {
  float v[kWidth];
};

template <bool kBf16, int kWidth>
FR_DEVICE Values<kWidth> Load(const void* data, std::int64_t place) {
  Values<kWidth> out;
  if constexpr (kWidth == 1) {
    out.v[0] = kBf16 ? simt::FromBf16(static_cast<const Bf16Bits*>(data)[place])
                     : static_cast<const float*>(data)[place];
  } else if constexpr (kBf16) {
    const Words words = *reinterpret_cast<const Words*>(static_cast<const Bf16Bits*>(data) + place);
    FR_UNROLL
    for (int i = 0; i < 4; ++i) {
      out.v[2 * i] = simt::FromBf16(static_cast<Bf16Bits>(words.word[i]));
      out.v[2 * i + 1] = simt::FromBf16(static_cast<Bf16Bits>(words.word[i] >> 16U));
    }
  } else {
    struct alignas(16) Four {
      float v[4];
    };
    const auto* fours = reinterpret_cast<const Four*>(static_cast<const float*>(data) + place);
    FR_UNROLL
    for (int half = 0; half < 2; ++half) {
      const Four four = fours[half];
      FR_UNROLL
      for (int i = 0; i < 4; ++i) out.v[4 * half + i] = four.v[i];
    }
  }
  return out;
}

template <bool kBf16, int kWidth>
FR_DEVICE void Store(void* data, std::int64_t place, const Values<kWidth>& in) {
  if constexpr (kWidth == 1) {
    if constexpr (kBf16) {
      static_cast<Bf16Bits*>(data)[place] = simt::ToBf16(in.v[0]);
    } else {
      static_cast<float*>(data)[place] = in.v[0];
    }
  } else if constexpr (kBf16) {
    Words words;
    FR_UNROLL
    for (int i = 0; i < 4; ++i) {
      words.word[i] = simt::ToBf16(in.v[2 * i]) |
                      static_cast<std::uint32_t>(simt::ToBf16(in.v[2 * i + 1])) << 16U;
    }
    *reinterpret_cast<Words*>(static_cast<Bf16Bits*>(data) + place) = words;
  } else {
    struct alignas(16) Four {
      float v[4];
    };
    auto* fours = reinterpret_cast<Four*>(static_cast<float*>(data) + place);
    FR_UNROLL
    for (int half = 0; half < 2; ++half) {
      Four four;
      FR_UNROLL
      for (int i = 0; i < 4; ++i) four.v[i] = in.v[4 * half + i];
      fours[half] = four;
    }
  }
}

// `value` where there is no such vector.
template <int kWidth>
FR_DEVICE Values<kWidth> LoadVector(const float* vector, std::int64_t channel, float value) {
  Values<kWidth> out;
  FR_UNROLL
  for (int i = 0; i < kWidth; ++i) out.v[i] = vector == nullptr ? value : vector[channel + i];
  return out;
}

// What rounding makes of a value that others will read from memory.
template <bool kBf16>
FR_DEVICE float AsStored(float value) {
  return kBf16 ? simt::FromBf16(simt::ToBf16(value)) : value;
}

}  // namespace fr::FR_GPU
