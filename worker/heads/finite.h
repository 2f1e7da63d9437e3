#pragma once
// Samples whose values are not finite, found before anything has moved.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/base/error.h"

namespace fr {

// A value of the global batch is infinite or not a number. Every rank sees the same batch, so every
// rank throws it, at the same place. Weights and their state are what they were.
class NonFiniteError : public Error {
 public:
  explicit NonFiniteError(const std::string& what) : Error(ErrorCode::kDataLoss, what) {}
};

// Throws NonFiniteError unless all of `values`, one a sample of the global batch, are finite:
// `what`, of which sample of which rank.
void CheckFinite(std::span<const double> values, const char* what,
                 const std::vector<std::int64_t>& rows_per_rank);

}  // namespace fr
