#include "worker/heads/finite.h"

#include <fmt/format.h>

#include "common/base/error.h"

namespace fr {

void CheckFinite(const at::Tensor& rows, const char* what, double steps, int rank) {
  if (rows.numel() == 0) return;
  const at::Tensor finite = at::isfinite(rows).view({rows.size(0), -1}).all(1);
  if (finite.all().item<bool>()) return;
  const std::int64_t row = at::argmin(finite.to(at::kByte)).item<std::int64_t>();
  throw Error(
      ErrorCode::kDataLoss,
      fmt::format("step {}, rank {}: {} of sample {} of its batch is not finite: the training "
                  "diverged; lower optimizer.lr or lengthen optimizer.schedule.warmup_steps",
                  steps + 1, rank, what, row));
}

}  // namespace fr
