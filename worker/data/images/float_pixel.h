#pragma once
// Pictures as floats. Three values of a pixel, computed as a vector of four: the fourth belongs to
// the next pixel and does not matter. Rows of floats [width, 3] are walked so, with one value more
// behind the last pixel; what is stored is put right by the pixel that follows.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace fr {

using FloatPixel = float __attribute__((vector_size(16)));

inline FloatPixel LoadPixel(const float* at) {
  FloatPixel pixel;
  std::memcpy(&pixel, at, sizeof(pixel));
  return pixel;
}

inline void StorePixel(const FloatPixel& pixel, float* at) {
  std::memcpy(at, &pixel, sizeof(pixel));
}

// Rounded and cut to 0..255, as integers: so the compiler makes vectors of it. REQUIRES: values
// that an int32 holds, and no overlap of `from` and `to` [count].
inline void ToBytes(const float* from, std::size_t count, std::uint8_t* to) {
  for (std::size_t i = 0; i < count; ++i) {
    const auto value = static_cast<std::int32_t>(from[i] + 0.5F);
    to[i] = static_cast<std::uint8_t>(std::clamp(value, 0, 255));
  }
}

}  // namespace fr
