#include "worker/comm/nccl_communicator.h"

#include <algorithm>
#include <exception>
#include <mutex>
#include <utility>

#include <fmt/format.h>

#include "common/base/clock.h"
#include "worker/comm/nccl_channel.h"
#include "worker/comm/rank_messages.h"
#include "worker/comm/rows.h"

namespace fr {
namespace {

std::int64_t Bytes(const at::Tensor& tensor) { return tensor.numel() * tensor.element_size(); }

// What can be added and compared.
NcclType NumberType(const at::Tensor& tensor, const char* collective) {
  const NcclType type = CarriedNcclType(tensor, collective);
  if (type == NcclType::kBFloat16) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: tensors of BFloat16 are not supported", collective));
  }
  return type;
}

std::vector<std::int64_t> Elements(const std::vector<std::int64_t>& rows_per_rank,
                                   std::int64_t row_elements) {
  std::vector<std::int64_t> parts;
  for (const std::int64_t rows : rows_per_rank) parts.push_back(rows * row_elements);
  return parts;
}

// full [sum(parts)] of every rank -> own [parts[rank]], added in NCCL's order.
NcclStatus ReduceScatter(const NcclApi& api, NcclComm comm, const NcclExchange& exchange,
                         const at::Tensor& full, const at::Tensor& own,
                         const std::vector<std::int64_t>& parts, NcclType type) {
  const auto* from = static_cast<const char*>(full.const_data_ptr());
  void* to = own.mutable_data_ptr();
  if (AllEqual(parts)) {
    return api.reduce_scatter(from, to, static_cast<std::size_t>(parts[0]), type,
                              NcclOperation::kSum, comm, exchange.stream);
  }
  NcclStatus status = kNcclSuccess;
  for (int rank = 0; rank < exchange.ranks && status == kNcclSuccess; ++rank) {
    const std::int64_t its = parts[static_cast<std::size_t>(rank)];
    if (its == 0) continue;
    status = api.reduce(from, to, static_cast<std::size_t>(its), type, NcclOperation::kSum, rank,
                        comm, exchange.stream);
    from += its * full.element_size();
  }
  return status;
}

}  // namespace

class NcclCommunicator::Pending : public PendingCollective {
 public:
  Pending(Gpu& gpu, std::shared_ptr<const CollectiveFailure> failure,
          std::unique_ptr<GpuEvent> done, std::int64_t begin_ns)
      : gpu_(gpu), failure_(std::move(failure)), done_(std::move(done)), span_{begin_ns, 0} {}

  TimeSpan Wait() override {
    failure_->ThrowIfAny();
    done_->HoldBack(gpu_.stream());
    if (span_.end_ns == 0) span_.end_ns = SteadyNanos();
    return span_;
  }

 private:
  Gpu& gpu_;
  std::shared_ptr<const CollectiveFailure> failure_;
  std::unique_ptr<GpuEvent> done_;
  TimeSpan span_;
};

class NcclCommunicator::Channels {
 public:
  void Add(std::shared_ptr<NcclChannel> channel) {
    const std::lock_guard lock(mutex_);
    channels_.push_back(std::move(channel));
  }
  std::string AsyncError() {
    for (const auto& channel : All()) {
      const std::string error = channel->AsyncError();
      if (!error.empty()) return "NCCL reports: " + error;
    }
    return "";
  }
  void Abort() {
    for (const auto& channel : All()) channel->Abort();
  }

 private:
  std::vector<std::shared_ptr<NcclChannel>> All() {
    const std::lock_guard lock(mutex_);
    return channels_;
  }

  std::mutex mutex_;
  std::vector<std::shared_ptr<NcclChannel>> channels_;
};

NcclCommunicator::NcclCommunicator(Communicator& inner, std::unique_ptr<RankMessages> messages,
                                   Gpu& gpu, const NcclApi& api, CollectiveWatchOptions options)
    : inner_(inner),
      gpu_(gpu),
      stream_beside_(gpu.NewStream(true)),
      channels_(std::make_shared<Channels>()),
      watch_(std::make_unique<CollectiveWatch>(
          std::move(messages),
          CollectiveWatch::Transport{[channels = channels_] { return channels->AsyncError(); },
                                     [channels = channels_] { channels->Abort(); }},
          std::move(options))) {
  // There is nothing to abort yet if a rank does not come, but on_failure hears of it.
  watch_->Begin(callers_.queue, "start of NCCL", 0);
  callers_.channel = NewChannel(api);
  beside_.channel = NewChannel(api);
  watch_->Given(callers_.queue, nullptr);
}

NcclUniqueId NcclCommunicator::ShareUniqueId(const NcclApi& api) {
  NcclUniqueId id;
  NcclStatus status = kNcclSuccess;
  std::string bytes;
  if (rank() == 0) status = api.get_unique_id(&id);
  // Where rank 0 has none it says so: the others would wait for it.
  if (status == kNcclSuccess) bytes.assign(id.bytes.data(), id.bytes.size());
  bytes = inner_.BroadcastBytes(bytes, 0);
  if (bytes.size() != id.bytes.size()) {
    const std::string reason = rank() == 0 ? api.error_text(status) : "rank 0 says why";
    throw Error(ErrorCode::kUnavailable,
                fmt::format("NCCL could not be started on rank {}: {}", rank(), reason));
  }
  std::copy(bytes.begin(), bytes.end(), id.bytes.begin());
  return id;
}

std::shared_ptr<NcclChannel> NcclCommunicator::NewChannel(const NcclApi& api) {
  auto channel = std::make_shared<NcclChannel>(api, world_size(), ShareUniqueId(api), rank());
  channels_->Add(channel);
  return channel;
}

NcclCommunicator::~NcclCommunicator() {
  if (std::uncaught_exceptions() == 0 && watch_->Drain()) return;
  watch_->Fail(
      Error(ErrorCode::kUnavailable,
            fmt::format("collectives on rank {} were given up: the program ends", rank())));
  channels_->Abort();  // what an earlier failure did not, as it was not there yet
}

bool NcclCommunicator::OnGpu(const at::Tensor& tensor) const { return GpuOf(tensor) == &gpu_; }

void NcclCommunicator::Run(const Lane& lane, const char* collective,
                           const NcclChannel::Calls& calls) {
  const std::string reason = lane.channel->Do(calls);
  if (reason.empty()) return;
  watch_->Fail(Error(ErrorCode::kUnavailable, fmt::format("{} failed on rank {}: NCCL reports: {}",
                                                          collective, rank(), reason)));
  watch_->failure()->ThrowIfAny();
}

void NcclCommunicator::Do(const Lane& lane, const char* collective, std::int64_t bytes,
                          const Work& work) {
  watch_->Begin(lane.queue, collective, bytes);
  NcclExchange exchange;
  exchange.rank = rank();
  exchange.ranks = world_size();
  exchange.stream = gpu_.stream();
  exchange.run = [&](const NcclChannel::Calls& calls) { Run(lane, collective, calls); };
  try {
    work(exchange);
    std::unique_ptr<GpuEvent> done = gpu_.NewEvent();
    done->Record(exchange.stream);
    watch_->Given(lane.queue, std::move(done));
  } catch (const std::exception& error) {
    // The GPU's memory may have run out: this rank has lost step with the others.
    watch_->Fail(Error(ErrorCode::kUnavailable,
                       fmt::format("{} failed on rank {}: {}", collective, rank(), error.what())));
    throw;
  }
}

void NcclCommunicator::AllReduce(at::Tensor& tensor, NcclOperation operation,
                                 const char* collective) {
  const NcclType type = NumberType(tensor, collective);
  Do(callers_, collective, Bytes(tensor), [&](const NcclExchange& exchange) {
    if (tensor.numel() == 0) return;
    if (deterministic_ && operation == NcclOperation::kSum && tensor.is_floating_point()) {
      NcclAllReduceInRankOrder(exchange, tensor, Wire::kFloat32);
      return;
    }
    void* data = tensor.mutable_data_ptr();
    exchange.run([&](const NcclApi& api, NcclComm comm) {
      return api.all_reduce(data, data, static_cast<std::size_t>(tensor.numel()), type, operation,
                            comm, exchange.stream);
    });
  });
}

void NcclCommunicator::AllReduceSum(at::Tensor& tensor) {
  watch_->failure()->ThrowIfAny();
  if (!OnGpu(tensor)) return inner_.AllReduceSum(tensor);
  AllReduce(tensor, NcclOperation::kSum, "all-reduce");
}

void NcclCommunicator::AllReduceMax(at::Tensor& tensor) {
  watch_->failure()->ThrowIfAny();
  if (!OnGpu(tensor)) return inner_.AllReduceMax(tensor);
  AllReduce(tensor, NcclOperation::kMax, "all-reduce (max)");
}

std::unique_ptr<PendingCollective> NcclCommunicator::StartAllReduceSum(at::Tensor tensor,
                                                                       Wire wire) {
  constexpr const char* kName = "all-reduce beside computation";
  watch_->failure()->ThrowIfAny();
  if (!OnGpu(tensor)) return inner_.StartAllReduceSum(std::move(tensor), wire);
  if (CarriedNcclType(tensor, kName) != NcclType::kFloat32) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: tensors of {} are not supported", kName,
                            at::toString(tensor.scalar_type())));
  }
  const std::int64_t begin_ns = SteadyNanos();
  const bool rounds = wire == Wire::kBFloat16;
  std::unique_ptr<GpuEvent> ready = gpu_.NewEvent();
  ready->Record(gpu_.stream());
  ready->HoldBack(stream_beside_);
  gpu_.OnStream(stream_beside_, [&] {
    const std::int64_t bytes = rounds ? Bytes(tensor) / 2 : Bytes(tensor);
    Do(beside_, kName, bytes, [&](const NcclExchange& exchange) {
      if (tensor.numel() == 0) return;
      if (rounds || deterministic_) return NcclAllReduceInRankOrder(exchange, tensor, wire);
      void* data = tensor.mutable_data_ptr();
      exchange.run([&](const NcclApi& api, NcclComm comm) {
        return api.all_reduce(data, data, static_cast<std::size_t>(tensor.numel()),
                              NcclType::kFloat32, NcclOperation::kSum, comm, exchange.stream);
      });
    });
  });
  gpu_.KeepFor(tensor, stream_beside_);
  std::unique_ptr<GpuEvent> done = gpu_.NewEvent();
  done->Record(stream_beside_);
  return std::make_unique<Pending>(gpu_, watch_->failure(), std::move(done), begin_ns);
}

at::Tensor NcclCommunicator::AllGatherRows(const at::Tensor& local,
                                           const std::vector<std::int64_t>& rows_per_rank) {
  constexpr const char* kName = "all-gather";
  watch_->failure()->ThrowIfAny();
  if (!OnGpu(local)) return inner_.AllGatherRows(local, rows_per_rank);
  CheckRows(local, rows_per_rank.at(static_cast<std::size_t>(rank())), kName, rank());
  CarriedNcclType(local, kName);
  const std::vector<std::int64_t> parts = Elements(rows_per_rank, RowElements(local));
  at::Tensor all = at::empty(SizesWithRows(local, SumOfRows(rows_per_rank)), local.options());
  Do(callers_, kName, Bytes(local),
     [&](const NcclExchange& exchange) { NcclGatherParts(exchange, local, all, parts); });
  return all;
}

at::Tensor NcclCommunicator::ReduceScatterRows(const at::Tensor& full,
                                               const std::vector<std::int64_t>& rows_per_rank) {
  constexpr const char* kName = "reduce-scatter";
  watch_->failure()->ThrowIfAny();
  if (!OnGpu(full)) return inner_.ReduceScatterRows(full, rows_per_rank);
  CheckRows(full, SumOfRows(rows_per_rank), kName, rank());
  const NcclType type = NumberType(full, kName);
  const std::vector<std::int64_t> parts = Elements(rows_per_rank, RowElements(full));
  const std::vector<std::int64_t> sizes =
      SizesWithRows(full, rows_per_rank.at(static_cast<std::size_t>(rank())));
  at::Tensor own;
  Do(callers_, kName, Bytes(full), [&](const NcclExchange& exchange) {
    if (deterministic_ && full.is_floating_point()) {
      own = NcclReduceScatterInRankOrder(exchange, full.view({-1}), parts).view(sizes);
      return;
    }
    own = at::empty(sizes, full.options());
    if (full.numel() == 0) return;
    exchange.run([&](const NcclApi& api, NcclComm comm) {
      return ReduceScatter(api, comm, exchange, full, own, parts, type);
    });
  });
  return own;
}

void NcclCommunicator::Broadcast(at::Tensor& tensor, int root) {
  watch_->failure()->ThrowIfAny();
  if (!OnGpu(tensor)) return inner_.Broadcast(tensor, root);
  const NcclType type = CarriedNcclType(tensor, "broadcast");
  Do(callers_, "broadcast", Bytes(tensor), [&](const NcclExchange& exchange) {
    if (tensor.numel() == 0) return;
    void* data = tensor.mutable_data_ptr();
    exchange.run([&](const NcclApi& api, NcclComm comm) {
      return api.broadcast(data, data, static_cast<std::size_t>(tensor.numel()), type, root, comm,
                           exchange.stream);
    });
  });
}

std::string NcclCommunicator::BroadcastBytes(const std::string& bytes, int root) {
  watch_->failure()->ThrowIfAny();
  return inner_.BroadcastBytes(bytes, root);
}

std::vector<std::string> NcclCommunicator::GatherBytes(const std::string& bytes, int root) {
  watch_->failure()->ThrowIfAny();
  return inner_.GatherBytes(bytes, root);
}

std::vector<std::int64_t> NcclCommunicator::AllGather(std::int64_t value) {
  watch_->failure()->ThrowIfAny();
  return inner_.AllGather(value);
}

void NcclCommunicator::Barrier() {
  watch_->failure()->ThrowIfAny();
  inner_.Barrier();
}

void NcclCommunicator::SetDeterministic(bool deterministic) {
  deterministic_ = deterministic;
  inner_.SetDeterministic(deterministic);
}

std::unique_ptr<Communicator> NcclCommunicator::Duplicate() {
  watch_->failure()->ThrowIfAny();
  return inner_.Duplicate();
}

}  // namespace fr
