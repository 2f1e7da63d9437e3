#pragma once
// Operands of the head's products (gpu_kernels.h), made and read back in double precision.

#include <cstdint>
#include <functional>
#include <vector>

#include "common/base/random.h"
#include "simt.h"
#include "worker/gpu/gpu_kernels.h"

namespace fr {

struct Matrix {
  Matrix(std::int64_t rows_in, std::int64_t columns_in)
      : rows(rows_in), columns(columns_in), value(static_cast<std::size_t>(rows_in * columns_in)) {}
  float& operator()(std::int64_t i, std::int64_t j) {
    return value[static_cast<std::size_t>(i * columns + j)];
  }
  float operator()(std::int64_t i, std::int64_t j) const {
    return value[static_cast<std::size_t>(i * columns + j)];
  }

  std::int64_t rows;
  std::int64_t columns;
  std::vector<float> value;
};

inline Matrix RandomMatrix(std::int64_t rows, std::int64_t columns, double size,
                           std::uint64_t seed) {
  Random random(seed);
  Matrix matrix(rows, columns);
  for (float& value : matrix.value) value = static_cast<float>(size * random.Normal());
  return matrix;
}

// Memory of an operand.
class Operand {
 public:
  Operand(std::int64_t rows, std::int64_t columns, int planes)
      : bits_(static_cast<std::size_t>(rows * columns * planes), 0xffff),  // NaN
        view_{bits_.data(), planes, rows, columns, rows * columns} {}
  const GpuOperand& view() const { return view_; }
  double operator()(std::int64_t i, std::int64_t j) const {
    double sum = 0;
    for (int plane = 0; plane < view_.planes; ++plane) {
      sum += static_cast<double>(emulated_gpu::simt::FromBf16(
          bits_[static_cast<std::size_t>(plane * view_.plane_stride + i * view_.columns + j)]));
    }
    return sum;
  }

 private:
  std::vector<Bf16Bits> bits_;
  GpuOperand view_;
};

inline std::int64_t Padded(std::int64_t size) {
  return (size + kGpuStep - 1) / kGpuStep * kGpuStep;
}

}  // namespace fr
