#pragma once
// A job as the scheduler sees it. Pure.

#include <cstdint>

#include "coordinator/jobs/job_table.h"
#include "coordinator/scheduler/scheduler.h"

namespace fr {

// Whether each worker takes a GPU; `cluster_has_gpus` decides for device auto.
bool TakesGpus(const Resources& resources, bool cluster_has_gpus);

// Of a job that waits, or holds slots. `steady_ms`: the steady clock now.
JobView ViewOf(const Job& job, bool cluster_has_gpus, std::int64_t steady_ms);

// The same of a job that is not there yet.
JobView ViewOf(const JobSpec& spec, const Demand& demand, bool cluster_has_gpus);

int NumWorkers(const LaunchRecord& launch);

}  // namespace fr
