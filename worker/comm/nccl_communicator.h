#pragma once
// Collectives through NCCL for tensors on the GPU, beside those of another communicator.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "worker/comm/collective_watch.h"
#include "worker/comm/communicator.h"
#include "worker/comm/nccl_rank_order_sum.h"

namespace fr {

class NcclChannel;

// Tensors on the GPU go through NCCL, everything else through `inner`.
//
// What goes through NCCL is given to the caller's current stream: a call returns before its result
// is there, which whatever the stream is given later finds. Not within Gpu::Record.
//
// StartAllReduceSum has a communicator of NCCL and a stream of its own. It begins when what the
// caller's stream had is done; Wait() makes the caller's current stream wait, not the host. Its
// TimeSpan is the host's: from the start until Wait() returned.
//
// Order of sums: with Wire::kBFloat16, and with SetDeterministic(true), rank order, and the bits of
// MpiCommunicator (a NaN may have others). Otherwise NCCL's: all ranks get the same bits, but these
// depend on the number of ranks, on the tensor's size, and on the algorithm that NCCL chooses; so
// on how a buffer is cut into tensors.
//
// A collective that is not done in time, or fails, ends all of them (collective_watch.h): the call
// or Wait() that comes next throws Error(kUnavailable), and so do all later ones. Memory that they
// were to write holds nothing of use then. Whoever keeps results (a checkpoint) waits for the GPU
// first, and then calls any of the methods: it throws if what was waited for was given up.
class NcclCommunicator : public Communicator {
 public:
  // Collective: all ranks wait here for each other. `messages` are between the ranks of `inner`, as
  // MpiCommunicator::NewMessages makes them. `inner`, `gpu` and `api` outlive this. Throws
  // Error(kUnavailable) when NCCL cannot be started.
  NcclCommunicator(Communicator& inner, std::unique_ptr<RankMessages> messages, Gpu& gpu,
                   const NcclApi& api, CollectiveWatchOptions options);
  // Waits for what is under way. While an exception unwinds the stack it is aborted instead: peers
  // may never come.
  ~NcclCommunicator() override;

  int rank() const override { return inner_.rank(); }
  int world_size() const override { return inner_.world_size(); }
  int ranks_on_this_host() const override { return inner_.ranks_on_this_host(); }
  int rank_on_this_host() const override { return inner_.rank_on_this_host(); }

  void AllReduceSum(at::Tensor& tensor) override;
  void AllReduceMax(at::Tensor& tensor) override;
  std::unique_ptr<PendingCollective> StartAllReduceSum(at::Tensor tensor, Wire wire) override;
  at::Tensor AllGatherRows(const at::Tensor& local,
                           const std::vector<std::int64_t>& rows_per_rank) override;
  at::Tensor ReduceScatterRows(const at::Tensor& full,
                               const std::vector<std::int64_t>& rows_per_rank) override;
  void Broadcast(at::Tensor& tensor, int root) override;
  std::string BroadcastBytes(const std::string& bytes, int root) override;
  std::vector<std::string> GatherBytes(const std::string& bytes, int root) override;
  std::vector<std::int64_t> AllGather(std::int64_t value) override;
  // Of the hosts: the GPUs may be behind.
  void Barrier() override;
  void SetDeterministic(bool deterministic) override;
  // Of `inner`: for tensors on the processor.
  std::unique_ptr<Communicator> Duplicate() override;

 private:
  // What the watch may have to abort.
  class Channels;
  // A communicator of NCCL and its queue in the watch.
  struct Lane {
    std::shared_ptr<NcclChannel> channel;
    int queue = 0;
  };
  class Pending;
  // What a collective does with NCCL, on the current stream.
  using Work = std::function<void(const NcclExchange& exchange)>;

  bool OnGpu(const at::Tensor& tensor) const;
  std::shared_ptr<NcclChannel> NewChannel(const NcclApi& api);
  NcclUniqueId ShareUniqueId(const NcclApi& api);
  void Do(const Lane& lane, const char* collective, std::int64_t bytes, const Work& work);
  void Run(const Lane& lane, const char* collective, const NcclChannel::Calls& calls);
  void AllReduce(at::Tensor& tensor, NcclOperation operation, const char* collective);

  Communicator& inner_;
  Gpu& gpu_;
  bool deterministic_ = false;
  Lane callers_{nullptr, 0};
  Lane beside_{nullptr, 1};
  GpuStream stream_beside_ = nullptr;
  std::shared_ptr<Channels> channels_;
  std::unique_ptr<CollectiveWatch> watch_;
};

}  // namespace fr
