#include "worker/telemetry/metric_points.h"

#include "common/base/clock.h"

namespace fr {

MetricPoint MakePoint(const std::string& name, std::int64_t step, double value) {
  MetricPoint point;
  point.set_name(name);
  point.set_step(step);
  point.set_value(value);
  point.set_time_ms(UnixMillis());
  return point;
}

std::vector<MetricPoint> ValidationPoints(const ValidationResult& result) {
  const std::string prefix = "val/" + result.set() + "/";
  const std::int64_t step = result.step();
  return {MakePoint(prefix + "accuracy", step, result.accuracy()),
          MakePoint(prefix + "accuracy_std", step, result.accuracy_std()),
          MakePoint(prefix + "auc", step, result.auc()),
          MakePoint(prefix + "eer", step, result.eer()),
          MakePoint(prefix + "tar_at_far_1e-3", step, result.tar_at_far_1e3()),
          MakePoint(prefix + "threshold", step, result.threshold()),
          MakePoint(prefix + "embedding_norm", step, result.embedding_norm())};
}

}  // namespace fr
