#pragma once
// NCCL's calls on the processor's memory, over MPI, as blocking as NCCL's own may be. Only what
// NcclApi says is kept: sums are in MPI's order.

#include <atomic>

#include "worker/comm/nccl_api.h"

namespace fr {

// What a test does to it, and sees of it; on this rank.
struct EmulatedNcclState {
  // Collectives succeed and do nothing: as on the host, while the GPU waits.
  std::atomic<bool> ignores = false;
  // Of the next group of calls, of the next unique id, and in the background.
  std::atomic<NcclStatus> next_group = kNcclSuccess;
  std::atomic<NcclStatus> next_id = kNcclSuccess;
  std::atomic<NcclStatus> background = kNcclSuccess;

  std::atomic<int> groups = 0;
  std::atomic<int> started = 0;
  std::atomic<int> destroyed = 0;
  std::atomic<int> aborted = 0;
};

// All NCCL in this process; a new test starts from `Reset`.
EmulatedNcclState& NcclState();
void ResetNccl();

const NcclApi& EmulatedNccl();

}  // namespace fr
