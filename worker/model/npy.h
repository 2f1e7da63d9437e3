#pragma once
// NumPy's file format for one array
// (numpy.org/doc/stable/reference/generated/numpy.lib.format.html).

#include <cstdint>
#include <span>
#include <string>

namespace fr {

// A matrix of float32, row-major, as numpy.load reads it. REQUIRES: rows * columns values.
std::string ToNpy(std::span<const float> values, std::int64_t rows, std::int64_t columns);

}  // namespace fr
