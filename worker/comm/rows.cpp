#include "worker/comm/rows.h"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>

#include "common/base/error.h"

namespace fr {

std::int64_t SumOfRows(const std::vector<std::int64_t>& rows_per_rank) {
  return std::accumulate(rows_per_rank.begin(), rows_per_rank.end(), std::int64_t{0});
}

std::vector<std::int64_t> EvenParts(std::int64_t count, int ranks) {
  std::vector<std::int64_t> parts(static_cast<std::size_t>(ranks), count / ranks);
  for (std::int64_t i = 0; i < count % ranks; ++i) ++parts[static_cast<std::size_t>(i)];
  return parts;
}

bool AllEqual(const std::vector<std::int64_t>& parts) {
  return std::all_of(parts.begin(), parts.end(), [&](auto part) { return part == parts[0]; });
}

std::int64_t RowElements(const at::Tensor& tensor) {
  std::int64_t elements = 1;
  for (std::int64_t dim = 1; dim < tensor.dim(); ++dim) elements *= tensor.size(dim);
  return elements;
}

std::vector<std::int64_t> SizesWithRows(const at::Tensor& tensor, std::int64_t rows) {
  std::vector<std::int64_t> sizes = tensor.sizes().vec();
  sizes[0] = rows;
  return sizes;
}

void CheckRows(const at::Tensor& tensor, std::int64_t expected, const char* collective, int rank) {
  if (tensor.dim() < 1 || tensor.size(0) != expected) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: rank {} has {} rows where {} were agreed", collective, rank,
                            tensor.dim() < 1 ? 0 : tensor.size(0), expected));
  }
}

}  // namespace fr
