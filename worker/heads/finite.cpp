#include "worker/heads/finite.h"

#include <cmath>

#include <fmt/format.h>

namespace fr {

void CheckFinite(std::span<const double> values, const char* what,
                 const std::vector<std::int64_t>& rows_per_rank) {
  auto value = values.begin();
  for (std::size_t rank = 0; rank < rows_per_rank.size(); ++rank) {
    for (std::int64_t row = 0; row < rows_per_rank[rank]; ++row) {
      if (std::isfinite(*value++)) continue;
      throw NonFiniteError(
          fmt::format("{} of sample {} of rank {} is not finite", what, row, rank));
    }
  }
}

}  // namespace fr
