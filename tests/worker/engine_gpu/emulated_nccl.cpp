#include "tests/worker/engine_gpu/emulated_nccl.h"

#include <chrono>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <mpi.h>

namespace fr {
namespace {

constexpr NcclStatus kInternalError = 3;
constexpr NcclStatus kInvalidArgument = 4;

struct Comm {
  MPI_Comm mpi = MPI_COMM_NULL;
  int rank = 0;
  int ranks = 1;
  std::atomic<bool> aborted = false;
};

// One call under way. MPI works on memory of its own, which stays when the call is given up.
struct Call {
  Comm* comm = nullptr;
  std::vector<char> sent;
  std::vector<char> received;
  void* to = nullptr;
  std::function<int(Call& call)> start;
  MPI_Request request = MPI_REQUEST_NULL;
};

using Calls = std::vector<std::unique_ptr<Call>>;

// Communicators are kept, as a thread may still be in a call when one is aborted; calls that were
// given up too, as MPI may still write to them.
struct Kept {
  std::mutex mutex;
  std::deque<std::unique_ptr<Comm>> comms;
  std::deque<Calls> calls;
};

Kept& Keep() {
  static Kept kept;
  return kept;
}

thread_local int group_depth = 0;
thread_local Calls group;

MPI_Datatype TypeOf(NcclType type) {
  switch (type) {
    case NcclType::kFloat32:
      return MPI_FLOAT;
    case NcclType::kFloat64:
      return MPI_DOUBLE;
    case NcclType::kInt64:
      return MPI_INT64_T;
    case NcclType::kUInt8:
      return MPI_UINT8_T;
    case NcclType::kBFloat16:
      return MPI_UINT16_T;
  }
  return MPI_DATATYPE_NULL;
}

std::size_t SizeOf(NcclType type) {
  int size = 0;
  MPI_Type_size(TypeOf(type), &size);
  return static_cast<std::size_t>(size);
}

MPI_Op OperationOf(NcclOperation operation) {
  return operation == NcclOperation::kSum ? MPI_SUM : MPI_MAX;
}

NcclStatus Finish(Calls calls) {
  for (const auto& call : calls) {
    if (call->start(*call) != MPI_SUCCESS) return kInternalError;
  }
  for (std::size_t i = 0; i < calls.size();) {
    int done = 0;
    MPI_Test(&calls[i]->request, &done, MPI_STATUS_IGNORE);
    if (done != 0) {
      ++i;
    } else if (calls[i]->comm->aborted) {
      const std::lock_guard lock(Keep().mutex);
      Keep().calls.push_back(std::move(calls));
      return kInternalError;
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }
  for (const auto& call : calls) {
    if (call->to != nullptr && !call->received.empty()) {
      std::memcpy(call->to, call->received.data(), call->received.size());
    }
  }
  return kNcclSuccess;
}

NcclStatus GroupStart() {
  ++group_depth;
  return kNcclSuccess;
}

NcclStatus GroupEnd() {
  if (--group_depth > 0) return kNcclSuccess;
  Calls calls = std::exchange(group, {});
  ++NcclState().groups;
  const NcclStatus failure = NcclState().next_group.exchange(kNcclSuccess);
  if (failure != kNcclSuccess) return failure;
  return NcclState().ignores ? kNcclSuccess : Finish(std::move(calls));
}

// `from` null: nothing is sent; `to` null: nothing is received.
NcclStatus Add(NcclComm comm, const void* from, std::size_t sent_bytes, void* to,
               std::size_t received_bytes, std::function<int(Call& call)> start) {
  auto call = std::make_unique<Call>();
  call->comm = static_cast<Comm*>(comm);
  if (from != nullptr) {
    const char* bytes = static_cast<const char*>(from);
    call->sent.assign(bytes, bytes + sent_bytes);
  }
  if (to != nullptr) call->received.resize(received_bytes);
  call->to = to;
  call->start = std::move(start);
  GroupStart();
  group.push_back(std::move(call));
  return GroupEnd();
}

NcclStatus GetUniqueId(NcclUniqueId* id) {
  static char next = 1;
  id->bytes.fill(next++);
  return NcclState().next_id.exchange(kNcclSuccess);
}

NcclStatus InitRank(NcclComm* comm, int ranks, const NcclUniqueId& id, int rank) {
  auto made = std::make_unique<Comm>();
  MPI_Comm_dup(ranks == 1 ? MPI_COMM_SELF : MPI_COMM_WORLD, &made->mpi);
  made->rank = rank;
  made->ranks = ranks;
  NcclUniqueId first = id;
  MPI_Bcast(first.bytes.data(), static_cast<int>(first.bytes.size()), MPI_BYTE, 0, made->mpi);
  if (first.bytes != id.bytes) return kInvalidArgument;
  ++NcclState().started;
  *comm = made.get();
  const std::lock_guard lock(Keep().mutex);
  Keep().comms.push_back(std::move(made));
  return kNcclSuccess;
}

NcclStatus Destroy(NcclComm comm) {
  ++NcclState().destroyed;
  MPI_Comm_free(&static_cast<Comm*>(comm)->mpi);
  return kNcclSuccess;
}

NcclStatus Abort(NcclComm comm) {
  ++NcclState().aborted;
  static_cast<Comm*>(comm)->aborted = true;
  return kNcclSuccess;
}

NcclStatus AsyncError(NcclComm /*comm*/, NcclStatus* error) {
  *error = NcclState().background;
  return kNcclSuccess;
}

const char* ErrorText(NcclStatus status) {
  return status == kInternalError ? "internal error" : "remote process exited";
}

NcclStatus AllReduce(const void* send, void* receive, std::size_t count, NcclType type,
                     NcclOperation operation, NcclComm comm, GpuStream /*stream*/) {
  const std::size_t bytes = count * SizeOf(type);
  return Add(comm, send, bytes, receive, bytes, [=](Call& call) {
    return MPI_Iallreduce(call.sent.data(), call.received.data(), static_cast<int>(count),
                          TypeOf(type), OperationOf(operation), call.comm->mpi, &call.request);
  });
}

NcclStatus AllGather(const void* send, void* receive, std::size_t count, NcclType type,
                     NcclComm comm, GpuStream /*stream*/) {
  const std::size_t bytes = count * SizeOf(type);
  const auto ranks = static_cast<std::size_t>(static_cast<Comm*>(comm)->ranks);
  return Add(comm, send, bytes, receive, bytes * ranks, [=](Call& call) {
    return MPI_Iallgather(call.sent.data(), static_cast<int>(count), TypeOf(type),
                          call.received.data(), static_cast<int>(count), TypeOf(type),
                          call.comm->mpi, &call.request);
  });
}

NcclStatus ReduceScatter(const void* send, void* receive, std::size_t count, NcclType type,
                         NcclOperation operation, NcclComm comm, GpuStream /*stream*/) {
  const std::size_t bytes = count * SizeOf(type);
  const auto ranks = static_cast<std::size_t>(static_cast<Comm*>(comm)->ranks);
  return Add(comm, send, bytes * ranks, receive, bytes, [=](Call& call) {
    return MPI_Ireduce_scatter_block(call.sent.data(), call.received.data(),
                                     static_cast<int>(count), TypeOf(type), OperationOf(operation),
                                     call.comm->mpi, &call.request);
  });
}

NcclStatus Reduce(const void* send, void* receive, std::size_t count, NcclType type,
                  NcclOperation operation, int root, NcclComm comm, GpuStream /*stream*/) {
  const std::size_t bytes = count * SizeOf(type);
  void* to = static_cast<Comm*>(comm)->rank == root ? receive : nullptr;
  return Add(comm, send, bytes, to, bytes, [=](Call& call) {
    return MPI_Ireduce(call.sent.data(), call.received.data(), static_cast<int>(count),
                       TypeOf(type), OperationOf(operation), root, call.comm->mpi, &call.request);
  });
}

NcclStatus Broadcast(const void* send, void* receive, std::size_t count, NcclType type, int root,
                     NcclComm comm, GpuStream /*stream*/) {
  const std::size_t bytes = count * SizeOf(type);
  const bool sends = static_cast<Comm*>(comm)->rank == root;
  return Add(comm, sends ? send : nullptr, bytes, receive, bytes, [=](Call& call) {
    if (sends) call.received = call.sent;
    return MPI_Ibcast(call.received.data(), static_cast<int>(count), TypeOf(type), root,
                      call.comm->mpi, &call.request);
  });
}

NcclStatus Send(const void* data, std::size_t count, NcclType type, int rank, NcclComm comm,
                GpuStream /*stream*/) {
  return Add(comm, data, count * SizeOf(type), nullptr, 0, [=](Call& call) {
    return MPI_Isend(call.sent.data(), static_cast<int>(count), TypeOf(type), rank, 0,
                     call.comm->mpi, &call.request);
  });
}

NcclStatus Receive(void* data, std::size_t count, NcclType type, int rank, NcclComm comm,
                   GpuStream /*stream*/) {
  return Add(comm, nullptr, 0, data, count * SizeOf(type), [=](Call& call) {
    return MPI_Irecv(call.received.data(), static_cast<int>(count), TypeOf(type), rank, 0,
                     call.comm->mpi, &call.request);
  });
}

}  // namespace

EmulatedNcclState& NcclState() {
  static EmulatedNcclState state;
  return state;
}

void ResetNccl() {
  EmulatedNcclState& state = NcclState();
  state.ignores = false;
  for (std::atomic<int>* number :
       {&state.next_group, &state.next_id, &state.background, &state.groups, &state.started,
        &state.destroyed, &state.aborted}) {
    *number = 0;
  }
}

const NcclApi& EmulatedNccl() {
  static const NcclApi kApi = {.get_unique_id = GetUniqueId,
                               .init_rank = InitRank,
                               .destroy = Destroy,
                               .abort = Abort,
                               .async_error = AsyncError,
                               .error_text = ErrorText,
                               .group_start = GroupStart,
                               .group_end = GroupEnd,
                               .all_reduce = AllReduce,
                               .all_gather = AllGather,
                               .reduce_scatter = ReduceScatter,
                               .reduce = Reduce,
                               .broadcast = Broadcast,
                               .send = Send,
                               .receive = Receive};
  return kApi;
}

}  // namespace fr
