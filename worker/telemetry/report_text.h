#pragma once
// A report as lines for the log. Pure.

#include <string>
#include <vector>

#include "proto/metrics.pb.h"

namespace fr {

// "step 120/5000  loss 4.313000  lr 0.05000  38.2 images/s  1:02:03 left", and one line for each
// validated set.
std::vector<std::string> ReportLines(const std::vector<MetricPoint>& points,
                                     const Progress& progress);

}  // namespace fr
