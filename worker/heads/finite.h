#pragma once

#include <torch/torch.h>

namespace fr {

// Throws Error(kDataLoss) if a row of `rows` [n, ...] has a number that is not finite: `what` of
// which sample, at which step (`steps` are done) and rank, and what to do about it.
void CheckFinite(const at::Tensor& rows, const char* what, double steps, int rank);

}  // namespace fr
