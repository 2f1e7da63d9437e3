#include "worker/telemetry/report_text.h"

#include <cstdint>
#include <string_view>

#include <fmt/format.h>

namespace fr {
namespace {

// "1:02:03".
std::string Duration(double seconds) {
  const auto total = static_cast<std::int64_t>(seconds + 0.5);
  return fmt::format("{}:{:02}:{:02}", total / 3600, total / 60 % 60, total % 60);
}

double ValueOf(const std::vector<MetricPoint>& points, const std::string& name) {
  for (const MetricPoint& point : points) {
    if (point.name() == name) return point.value();
  }
  return 0;
}

}  // namespace

std::vector<std::string> ReportLines(const std::vector<MetricPoint>& points,
                                     const Progress& progress) {
  std::vector<std::string> lines;
  constexpr std::string_view kPrefix = "val/";
  constexpr std::string_view kSuffix = "/accuracy";
  for (const MetricPoint& point : points) {
    const std::string& name = point.name();
    if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) continue;
    const std::string path = name.substr(0, name.size() - kSuffix.size());
    lines.push_back(fmt::format(
        "step {}/{}  {}: accuracy {:.2f} % (+- {:.2f}), AUC {:.4f}, TAR@FAR=1e-3 {:.2f} %",
        point.step(), progress.total_steps(), path.substr(kPrefix.size()), 100 * point.value(),
        100 * ValueOf(points, path + "/accuracy_std"), ValueOf(points, path + "/auc"),
        100 * ValueOf(points, path + "/tar_at_far_1e-3")));
  }
  if (progress.has_loss()) {
    lines.push_back(fmt::format("step {}/{}  loss {:.6f}  lr {:.5f}  {:.1f} images/s  {} left",
                                progress.step(), progress.total_steps(), progress.loss(),
                                ValueOf(points, "train/lr"), progress.images_per_second(),
                                Duration(progress.seconds_left())));
  }
  return lines;
}

}  // namespace fr
