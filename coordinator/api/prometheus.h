#pragma once
// What Prometheus scrapes, in its text format 0.0.4 (prometheus.io, "Exposition formats"). Names,
// labels and units: docs/http-api.md.

#include <string>

#include "coordinator/api/request_counts.h"
#include "coordinator/snapshot.h"

namespace fr {

// Everything is in base units: seconds, bytes, shares from 0 to 1. A metric that is not known here
// appears under its own name in fr_job_metric, so that workers can report what this coordinator has
// never heard of. Pure.
std::string PrometheusText(const Snapshot& snapshot, const RequestCounts& rpc_requests,
                           const RequestCounts& http_requests);

inline constexpr const char* kPrometheusType = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace fr
