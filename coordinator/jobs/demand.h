#pragma once
// What a job will ask of its nodes, predicted once, when it is submitted. Pure.

#include <cstdint>
#include <string>

#include "common/plan/job_plan.h"
#include "proto/job.pb.h"
#include "proto/record.pb.h"

namespace fr {

// `resources.min_workers`, or as many as `workers` for a job that is not elastic.
int MinWorkers(const Resources& resources);

// Memory of a worker for every number of workers that the job may have, and its time, from
// common/plan; `resources.memory_gib` and `resources.expected_time` stand in their place. Where the
// identities are not known the memory is that of a worker without its share of the head. Throws
// Error(kInvalidArgument) for a network that cannot be built.
Demand PredictDemand(const JobSpec& spec, const DataFacts& facts);

// Bytes of one worker when there are `workers`; 0: not known.
std::int64_t WorkerBytes(const JobSpec& spec, const Demand& demand, int workers);

// "ada" of "ada@lab": the user whose limits and share count. Who says nothing is "unknown".
std::string OwnerOf(const std::string& submitter);

}  // namespace fr
