#include "worker/comm/nccl_channel.h"

#include <chrono>

#include <fmt/format.h>

#include "common/base/error.h"

namespace fr {
namespace {

// Longer than any call that is not stuck keeps its thread.
constexpr std::chrono::milliseconds kPatience{500};

}  // namespace

NcclChannel::NcclChannel(const NcclApi& api, int ranks, const NcclUniqueId& id, int rank)
    : api_(api) {
  const NcclStatus status = api_.init_rank(&comm_, ranks, id, rank);
  if (status != kNcclSuccess) {
    throw Error(ErrorCode::kUnavailable,
                fmt::format("NCCL could not be started on rank {}: {} (NCCL_DEBUG=WARN says more)",
                            rank, TextOf(status)));
  }
}

NcclChannel::~NcclChannel() {
  if (!aborted_) api_.destroy(comm_);
}

std::string NcclChannel::TextOf(NcclStatus status) const { return api_.error_text(status); }

std::string NcclChannel::Do(const Calls& calls) {
  const std::lock_guard lock(in_call_);
  if (aborted_) return "it was aborted";
  NcclStatus status = api_.group_start();
  if (status != kNcclSuccess) return TextOf(status);
  status = calls(api_, comm_);
  const NcclStatus of_group = api_.group_end();  // also after a failure, which it ends
  if (status == kNcclSuccess) status = of_group;
  return status == kNcclSuccess ? "" : TextOf(status);
}

void NcclChannel::Abort() {
  if (aborted_.exchange(true)) return;
  const bool free = in_call_.try_lock_for(kPatience);
  api_.abort(comm_);
  if (free) in_call_.unlock();
}

std::string NcclChannel::AsyncError() {
  const std::unique_lock lock(in_call_, std::try_to_lock);
  if (!lock.owns_lock() || aborted_) return "";
  NcclStatus error = kNcclSuccess;
  const NcclStatus status = api_.async_error(comm_, &error);
  if (status == kNcclSuccess && error == kNcclSuccess) return "";
  return TextOf(error == kNcclSuccess ? status : error);
}

}  // namespace fr
