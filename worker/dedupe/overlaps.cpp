#include "worker/dedupe/overlaps.h"

#include <algorithm>

#include <ATen/ops/from_blob.h>
#include <ATen/ops/matmul.h>
#include <c10/core/InferenceMode.h>

#include "common/base/error.h"

namespace fr {
namespace {

// A product of 1024 x 4096 floats is 16 MiB.
constexpr std::int64_t kLeftRows = 1024;
constexpr std::int64_t kRightRows = 4096;

at::Tensor Block(const CentreFile& centres, std::int64_t begin, std::int64_t end) {
  return at::from_blob(const_cast<float*>(centres.Rows(begin, end).data()),
                       {end - begin, centres.dimension()}, at::kFloat);
}

}  // namespace

void FindOverlaps(const CentreFile& left, const CentreFile& right, bool within, double threshold,
                  const std::function<void(const Match&)>& visit,
                  const std::function<void(std::int64_t, std::int64_t)>& progress) {
  if (left.dimension() != right.dimension()) {
    throw Error(ErrorCode::kInvalidArgument, "the centres are of models of different sizes");
  }
  const c10::InferenceMode inference;
  const auto lowest = static_cast<float>(threshold);
  for (std::int64_t a = 0; a < left.num_identities(); a += kLeftRows) {
    progress(a, left.num_identities());
    const std::int64_t a_end = std::min(a + kLeftRows, left.num_identities());
    const at::Tensor rows = Block(left, a, a_end);
    for (std::int64_t b = within ? a : 0; b < right.num_identities(); b += kRightRows) {
      const std::int64_t b_end = std::min(b + kRightRows, right.num_identities());
      const at::Tensor product = at::matmul(rows, Block(right, b, b_end).t()).contiguous();
      const float* cosine = product.const_data_ptr<float>();
      for (std::int64_t i = a; i < a_end; ++i) {
        for (std::int64_t j = b; j < b_end; ++j, ++cosine) {
          if (*cosine >= lowest && !(within && j <= i)) visit({i, j, *cosine});
        }
      }
    }
  }
  progress(left.num_identities(), left.num_identities());
}

}  // namespace fr
