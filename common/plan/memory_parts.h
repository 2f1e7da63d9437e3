#pragma once
// What the plans of both devices count alike. For common/plan alone. Sizes are bytes.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "common/networks/graph.h"
#include "common/plan/memory_plan.h"
#include "common/plan/training_memory.h"
#include "proto/job.pb.h"

namespace fr {

inline constexpr std::int64_t kFloat = 4;
inline constexpr std::int64_t kDouble = 8;
inline constexpr std::int64_t kMiB = 1 << 20;
// As worker/train/trainer.cpp, worker/data/loader.cpp and worker/heads have them.
inline constexpr std::int64_t kValidationBatch = 64;
inline constexpr std::int64_t kLoaderBatches = 4;  // three ahead, and the step's own
inline constexpr std::int64_t kHeadBins = 97;
// The process before it has a network, and the code that oneDNN writes while it runs: what is left
// of measured workers when all else is taken off.
inline constexpr std::int64_t kProgramBytes = 165 * kMiB;

// In the order in which they are added; those of 0 bytes are left out.
class MemoryItems {
 public:
  void Add(const char* key, const char* text, std::int64_t bytes) {
    if (bytes > 0) items_.push_back({key, text, bytes});
  }
  std::vector<MemoryItem> Take() { return std::move(items_); }

 private:
  std::vector<MemoryItem> items_;
};

struct StateBytes {
  std::int64_t trained = 0;
  std::int64_t other = 0;  // running statistics and what never changes
};
StateBytes BackboneBytes(const Graph& graph);

TrainingMemoryOptions TrainingOptionsOf(const JobSpec& spec, const WorkerShare& share);

// Of one image, a byte a value.
std::int64_t ImageBytes();
// Images that the loader has ready.
std::int64_t LoaderBytes(const WorkerShare& share);

// False for triplets.
bool HasHead(const JobSpec& spec);
// Of the head; otherwise a row moves as soon as its gradient is there.
bool NeedsWholeGradients(const JobSpec& spec);

// Embedding size as a processor's head rounds it up.
std::int64_t HeadColumns(const JobSpec& spec);
// Of the head's weights on a processor and in files, or of one of the copies that go with them.
std::int64_t HeadRowBytes(const JobSpec& spec, std::int64_t identities);

// The copy of rank 0's state that an asynchronous checkpoint is written from.
std::int64_t CheckpointCopyBytes(const JobSpec& spec, const Graph& graph, const WorkerShare& share);

}  // namespace fr
