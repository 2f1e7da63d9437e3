#pragma once
// As rank_order_sum.h, for a GPU's memory through NCCL: the same order and so the same bits. Each
// rank sends part i of its tensor to rank i, which adds the parts in rank order; the sums are
// gathered.

#include <cstdint>
#include <functional>
#include <vector>

#include <torch/torch.h>

#include "worker/comm/communicator.h"
#include "worker/comm/nccl_channel.h"

namespace fr {

// Through which the functions below speak. They give work to the current stream, which is `stream`,
// and return.
struct NcclExchange {
  int rank = 0;
  int ranks = 1;
  GpuStream stream = nullptr;
  // Does a group of calls, or throws.
  std::function<void(const NcclChannel::Calls& calls)> run;
};

// Of what the tensor holds. Throws Error(kInvalidArgument) for what NCCL, or we, do not send.
NcclType CarriedNcclType(const at::Tensor& tensor, const char* collective);

// In place, for a contiguous tensor of float or double (Wire::kBFloat16: float). Goes in pieces of
// 16 Mi elements, and needs memory for one piece more.
void NcclAllReduceInRankOrder(const NcclExchange& exchange, const at::Tensor& tensor, Wire wire);

// Sums of flat [sum(parts)], float or double, of which this rank gets its own part.
at::Tensor NcclReduceScatterInRankOrder(const NcclExchange& exchange, const at::Tensor& flat,
                                        const std::vector<std::int64_t>& parts);

// own [parts[rank]] of each rank -> all [sum(parts)], where it may lie already. Both are flat.
void NcclGatherParts(const NcclExchange& exchange, const at::Tensor& own, const at::Tensor& all,
                     const std::vector<std::int64_t>& parts);

}  // namespace fr
