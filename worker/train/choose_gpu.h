#pragma once
// Which GPU a rank computes on.

#include <memory>

#include "proto/job.pb.h"
#include "worker/gpu/gpu.h"

namespace fr {

class Communicator;

// The GPU of this rank, by its place among its host's ranks; null: this job computes on processors.
// `gpu`: every rank must have one. `auto`: GPUs are used if every rank has one. Collective, and the
// same choice on every rank. Throws, on every rank alike, Error(kInvalidArgument) when the job asks
// for GPUs that are not there or that this build cannot use, Error(kResourceExhausted) when two
// ranks would share one.
std::unique_ptr<Gpu> ChooseGpu(Resources::Device wanted, bool deterministic, Communicator& comm);

}  // namespace fr
