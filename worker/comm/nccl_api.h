#pragma once
// What we use of NCCL, as a table: NcclLibrary() (nccl_library.h) is the real one, the tests have
// one over MPI. So everything but that table is compiled and tested where there is no CUDA.
//
// Buffers are memory of the GPU, counts are elements, and work is given to a stream: a call returns
// before it is done. See NCCL's manual for each; the meanings here are the same.

#include <array>
#include <cstddef>

#include "worker/gpu/gpu_stream.h"

namespace fr {

using NcclComm = void*;  // an ncclComm_t

// An ncclResult_t. Zero is success.
using NcclStatus = int;
constexpr NcclStatus kNcclSuccess = 0;

struct NcclUniqueId {
  std::array<char, 128> bytes{};
};

enum class NcclType { kFloat32, kFloat64, kInt64, kUInt8, kBFloat16 };
enum class NcclOperation { kSum, kMax };

struct NcclApi {
  NcclStatus (*get_unique_id)(NcclUniqueId* id);
  // Blocking: every rank returns when all have come. On the calling thread's present device.
  NcclStatus (*init_rank)(NcclComm* comm, int ranks, const NcclUniqueId& id, int rank);
  // Waits for what was given to it. Blocking.
  NcclStatus (*destroy)(NcclComm comm);
  // Ends what is under way, on the GPU and in calls of other threads, and frees `comm`.
  NcclStatus (*abort)(NcclComm comm);
  // What went wrong in the background; kNcclSuccess: nothing.
  NcclStatus (*async_error)(NcclComm comm, NcclStatus* error);
  // For people.
  const char* (*error_text)(NcclStatus status);

  // Calls of this thread between the two are one, and may wait for each other.
  NcclStatus (*group_start)();
  NcclStatus (*group_end)();

  NcclStatus (*all_reduce)(const void* send, void* receive, std::size_t count, NcclType type,
                           NcclOperation operation, NcclComm comm, GpuStream stream);
  // [count] of each rank -> [ranks][count].
  NcclStatus (*all_gather)(const void* send, void* receive, std::size_t count, NcclType type,
                           NcclComm comm, GpuStream stream);
  // [ranks][count] -> [count].
  NcclStatus (*reduce_scatter)(const void* send, void* receive, std::size_t count, NcclType type,
                               NcclOperation operation, NcclComm comm, GpuStream stream);
  // `receive` matters on the root alone.
  NcclStatus (*reduce)(const void* send, void* receive, std::size_t count, NcclType type,
                       NcclOperation operation, int root, NcclComm comm, GpuStream stream);
  // `send` matters on the root alone.
  NcclStatus (*broadcast)(const void* send, void* receive, std::size_t count, NcclType type,
                          int root, NcclComm comm, GpuStream stream);
  NcclStatus (*send)(const void* data, std::size_t count, NcclType type, int rank, NcclComm comm,
                     GpuStream stream);
  NcclStatus (*receive)(void* data, std::size_t count, NcclType type, int rank, NcclComm comm,
                        GpuStream stream);
};

}  // namespace fr
