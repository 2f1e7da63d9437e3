#include "worker/heads/unit_rows.h"

namespace fr {
namespace {

constexpr double kMinNorm = 1e-12;

}  // namespace

UnitRows UnitRowsOf(const at::Tensor& x) {
  UnitRows rows;
  rows.norms = x.norm(2, 1, /*keepdim=*/true).clamp_min_(kMinNorm);
  rows.direction = (x / rows.norms).contiguous();
  return rows;
}

at::Tensor BackwardThroughUnitRows(const UnitRows& rows, const at::Tensor& by_direction) {
  const at::Tensor along = (by_direction * rows.direction).sum(1, /*keepdim=*/true);
  return (by_direction - rows.direction * along) / rows.norms;
}

}  // namespace fr
