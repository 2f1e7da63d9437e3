#pragma once
// The memory of a job's worker with a GPU, item by item: on the GPU, and what is left for its node.
// Never compared with a real GPU; docs/planning.md says how to do that.

#include <cstdint>
#include <vector>

#include "common/networks/graph.h"
#include "common/plan/memory_plan.h"
#include "proto/job.pb.h"

namespace fr {

// What cannot be counted, in bytes: allowances, taken from what is usual with LibTorch. They want
// measuring on the first real GPU; whatever is found there is to be written here and nowhere else.
//
// The CUDA context, with the kernels of LibTorch, cuDNN, NCCL and our own that it has loaded.
inline constexpr std::int64_t kGpuContextBytes = std::int64_t{512} << 20;
// What cuDNN and cuBLAS work in.
inline constexpr std::int64_t kGpuLibraryBytes = std::int64_t{100} << 20;
// NCCL's own buffers, of both its communicators. None with one worker.
inline constexpr std::int64_t kNcclBytes = std::int64_t{512} << 20;
// On the node: CUDA's libraries and what the driver keeps for a process, beyond what a worker on a
// processor has.
inline constexpr std::int64_t kCudaHostBytes = std::int64_t{1536} << 20;
// Multiprocessors, by which the head cuts a sum into parts: those of an H100 and an H200.
inline constexpr int kAssumedMultiprocessors = 132;

// Of the GPU. Items of 0 bytes are left out. Activations are those of a step's largest moment by a
// model of LibTorch's allocator (cuda_pool_model.h); other tensors are rounded up as it rounds them
// where they are large, and counted as they are where they are small.
std::vector<MemoryItem> PlanGpuMemory(const JobSpec& spec, const Graph& graph,
                                      const WorkerShare& share);

// Of rank 0's node, beside its GPU: no tensor of a step is there.
std::vector<MemoryItem> PlanMemoryBesideGpu(const JobSpec& spec, const Graph& graph,
                                            const WorkerShare& share);

}  // namespace fr
