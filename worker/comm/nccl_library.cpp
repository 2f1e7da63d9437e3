#include "worker/comm/nccl_library.h"

#include <cstdlib>
#include <cstring>

#include <nccl.h>

namespace fr {
namespace {

static_assert(sizeof(NcclUniqueId) == sizeof(ncclUniqueId));
static_assert(ncclSuccess == kNcclSuccess);

ncclUniqueId Native(const NcclUniqueId& id) {
  ncclUniqueId native;
  std::memcpy(native.internal, id.bytes.data(), id.bytes.size());
  return native;
}

ncclComm_t Native(NcclComm comm) { return static_cast<ncclComm_t>(comm); }

cudaStream_t Stream(GpuStream stream) { return static_cast<cudaStream_t>(stream); }

ncclDataType_t Native(NcclType type) {
  switch (type) {
    case NcclType::kFloat32:
      return ncclFloat32;
    case NcclType::kFloat64:
      return ncclFloat64;
    case NcclType::kInt64:
      return ncclInt64;
    case NcclType::kUInt8:
      return ncclUint8;
    case NcclType::kBFloat16:
      return ncclBfloat16;
  }
  return ncclNumTypes;  // which NCCL refuses
}

ncclRedOp_t Native(NcclOperation operation) {
  return operation == NcclOperation::kSum ? ncclSum : ncclMax;
}

NcclStatus GetUniqueId(NcclUniqueId* id) {
  ncclUniqueId native;
  const ncclResult_t status = ncclGetUniqueId(&native);
  if (status == ncclSuccess) std::memcpy(id->bytes.data(), native.internal, id->bytes.size());
  return status;
}

NcclStatus InitRank(NcclComm* comm, int ranks, const NcclUniqueId& id, int rank) {
  // Batch norm's sums over all ranks and the gradients' travel in two communicators at a time. Two
  // GPUs that began them in different orders could wait for each other for ever: NCCL (2.26 and
  // newer) shall keep to the program's order, which is the same on all ranks.
  setenv("NCCL_LAUNCH_ORDER_IMPLICIT", "1", /*overwrite=*/0);
  // A call of a communicator that never blocks starts a thread of its own each time, and has to be
  // asked whether it was given to the stream. So ours block; abort ends them from another thread.
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 1;
  ncclComm_t native = nullptr;
  const ncclResult_t status = ncclCommInitRankConfig(&native, ranks, Native(id), rank, &config);
  *comm = native;
  return status;
}

NcclStatus AsyncError(NcclComm comm, NcclStatus* error) {
  ncclResult_t native = ncclSuccess;
  const ncclResult_t status = ncclCommGetAsyncError(Native(comm), &native);
  *error = native == ncclInProgress ? ncclSuccess : native;
  return status;
}

constexpr NcclApi kLibrary = {
    .get_unique_id = GetUniqueId,
    .init_rank = InitRank,
    .destroy = [](NcclComm comm) -> NcclStatus { return ncclCommDestroy(Native(comm)); },
    .abort = [](NcclComm comm) -> NcclStatus { return ncclCommAbort(Native(comm)); },
    .async_error = AsyncError,
    .error_text =
        [](NcclStatus status) { return ncclGetErrorString(static_cast<ncclResult_t>(status)); },
    .group_start = []() -> NcclStatus { return ncclGroupStart(); },
    .group_end = []() -> NcclStatus { return ncclGroupEnd(); },
    .all_reduce = [](const void* send, void* receive, std::size_t count, NcclType type,
                     NcclOperation operation, NcclComm comm, GpuStream stream) -> NcclStatus {
      return ncclAllReduce(send, receive, count, Native(type), Native(operation), Native(comm),
                           Stream(stream));
    },
    .all_gather = [](const void* send, void* receive, std::size_t count, NcclType type,
                     NcclComm comm, GpuStream stream) -> NcclStatus {
      return ncclAllGather(send, receive, count, Native(type), Native(comm), Stream(stream));
    },
    .reduce_scatter = [](const void* send, void* receive, std::size_t count, NcclType type,
                         NcclOperation operation, NcclComm comm, GpuStream stream) -> NcclStatus {
      return ncclReduceScatter(send, receive, count, Native(type), Native(operation), Native(comm),
                               Stream(stream));
    },
    .reduce = [](const void* send, void* receive, std::size_t count, NcclType type,
                 NcclOperation operation, int root, NcclComm comm, GpuStream stream) -> NcclStatus {
      return ncclReduce(send, receive, count, Native(type), Native(operation), root, Native(comm),
                        Stream(stream));
    },
    .broadcast = [](const void* send, void* receive, std::size_t count, NcclType type, int root,
                    NcclComm comm, GpuStream stream) -> NcclStatus {
      return ncclBroadcast(send, receive, count, Native(type), root, Native(comm), Stream(stream));
    },
    .send = [](const void* data, std::size_t count, NcclType type, int rank, NcclComm comm,
               GpuStream stream) -> NcclStatus {
      return ncclSend(data, count, Native(type), rank, Native(comm), Stream(stream));
    },
    .receive = [](void* data, std::size_t count, NcclType type, int rank, NcclComm comm,
                  GpuStream stream) -> NcclStatus {
      return ncclRecv(data, count, Native(type), rank, Native(comm), Stream(stream));
    },
};

}  // namespace

const NcclApi& NcclLibrary() { return kLibrary; }

}  // namespace fr
