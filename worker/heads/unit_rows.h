#pragma once
// Embeddings as directions and lengths, and the way back.

#include <torch/torch.h>

namespace fr {

struct UnitRows {
  at::Tensor direction;  // [n, D] float32: x / |x|
  at::Tensor norms;      // [n, 1] float32: |x|, 1e-12 at least
};

// x [n, D] float32.
UnitRows UnitRowsOf(const at::Tensor& x);

// d loss / d x, given d loss / d direction [n, D]: what points along x is taken out.
at::Tensor BackwardThroughUnitRows(const UnitRows& rows, const at::Tensor& by_direction);

}  // namespace fr
