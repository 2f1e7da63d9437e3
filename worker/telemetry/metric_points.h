#pragma once
// Figures of a run as named points; the names are listed in proto/metrics.proto.

#include <cstdint>
#include <string>
#include <vector>

#include "proto/metrics.pb.h"

namespace fr {

// A point stamped with the present time.
MetricPoint MakePoint(const std::string& name, std::int64_t step, double value);

// One point per figure of `result`: val/<set>/accuracy and so on.
std::vector<MetricPoint> ValidationPoints(const ValidationResult& result);

}  // namespace fr
