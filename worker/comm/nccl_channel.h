#pragma once
// One communicator of NCCL, which another thread may abort.

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>

#include "worker/comm/nccl_api.h"

namespace fr {

class NcclChannel {
 public:
  // Between calls of the same group of NCCL's. Returns the first status that is no success, or that
  // of the group.
  using Calls = std::function<NcclStatus(const NcclApi& api, NcclComm comm)>;

  // Collective. Throws Error(kUnavailable) with NCCL's reason.
  NcclChannel(const NcclApi& api, int ranks, const NcclUniqueId& id, int rank);
  // Waits for what is under way, unless it was aborted.
  ~NcclChannel();
  NcclChannel(const NcclChannel&) = delete;
  NcclChannel& operator=(const NcclChannel&) = delete;

  // Empty: done, or rather given to the GPU. NCCL's reason otherwise, or that it was aborted.
  std::string Do(const Calls& calls);

  // These two by any thread.
  void Abort();
  // Empty: nothing went wrong in the background, or a call is under way and will tell.
  std::string AsyncError();

 private:
  std::string TextOf(NcclStatus status) const;

  const NcclApi& api_;
  NcclComm comm_ = nullptr;
  // Held during calls, so that none begins on a communicator that an abort frees. An abort does not
  // wait long for it: a call may be what is stuck.
  std::timed_mutex in_call_;
  std::atomic<bool> aborted_ = false;
};

}  // namespace fr
