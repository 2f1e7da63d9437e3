#pragma once
// How much memory the GPU of a planned job's worker has, as far as that is known.

#include <cstdint>
#include <string>

#include "proto/job.pb.h"
#include "proto/machine.pb.h"
#include "proto/rpc.pb.h"

namespace fr {

struct GpuOffer {
  std::int64_t bytes = 0;  // 0: not known
  std::string source;      // "NVIDIA L4 of node2"; where it is not known: why, and what to do
};

// gpu_memory_gib of a --machine file.
GpuOffer GpuOfMachine(const MachineModel& machine);

// The smallest GPU of the coordinator's nodes that have all labels the job asks for: workers may
// come to any of them.
GpuOffer SmallestGpu(const ListNodesReply& reply, const Resources& resources);

}  // namespace fr
