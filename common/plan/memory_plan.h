#pragma once
// The memory of a job's worker on its node, item by item. gpu_memory.h has that of its GPU.

#include <cstdint>
#include <string>
#include <vector>

#include "common/networks/graph.h"
#include "proto/job.pb.h"

namespace fr {

// What a job asks of one worker. The largest numbers of any worker.
struct WorkerShare {
  std::int64_t images = 0;          // of a step's batch
  std::int64_t images_at_once = 0;  // of them, with train.accumulate
  std::int64_t total_batch = 0;     // images of all workers, as the head sees them at once
  std::int64_t identities = 0;      // of the largest shard; 0 if unknown, or without a head
};

struct MemoryItem {
  std::string key;   // "activations": for programs
  std::string text;  // "activations and their gradients, at the largest moment": for people
  std::int64_t bytes = 0;
};

// Items of 0 bytes are left out. They are those of rank 0, which writes the backbone's checkpoint.
// Memory of the node: where resources.device says gpu, only what is not on the GPU; with `auto`,
// which may come to a processor, all of it.
std::vector<MemoryItem> PlanMemory(const JobSpec& spec, const Graph& graph,
                                   const WorkerShare& share);

std::int64_t SumOf(const std::vector<MemoryItem>& items);

// Copies of a parameter that an optimizer keeps as its state.
std::int64_t StateCopies(OptimizerType type);

// What an identity costs the rank that has it: its rows, the optimizer's state of them and, where
// the optimizer needs them whole, their gradients. 0 for losses without a head.
std::int64_t HeadBytesPerIdentity(const JobSpec& spec);

}  // namespace fr
