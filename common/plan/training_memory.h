#pragma once
// The memory that a network's values and their gradients take in one training step, and in
// validation: found by going through the step as the engine does (worker/backbones/run), with
// counters in place of tensors.

#include <cstdint>

#include "common/networks/graph.h"
#include "common/plan/memory_model.h"
#include "proto/job.pb.h"

namespace fr {

struct TrainingMemoryOptions {
  std::int64_t images = 1;  // worked through at a time by one worker
  Precision precision = Precision::fp32;
  bool recompute = false;
  // The caller counts the images in the forms in which it holds them; they are in none of the sums
  // then.
  bool caller_has_images = false;
};

// Bytes; parameters and their gradients are not in them.
struct TrainingMemory {
  std::int64_t kept = 0;      // between the passes: what the backward pass will read
  std::int64_t resident = 0;  // at the step's largest moment, with gaps between tensors
  // Of these: weights in the precision of the pass, as many as there are at one time.
  std::int64_t weight_copies = 0;
};

// On a processor.
TrainingMemory TrainingMemoryOf(const Graph& graph, const TrainingMemoryOptions& options);
// With tensors of `model`, which has none yet.
TrainingMemory TrainingMemoryOf(const Graph& graph, const TrainingMemoryOptions& options,
                                MemoryModel& model);

// Bytes of the network as validation runs it: its own copy of the weights and the largest set of
// values that live at one time, for `images` at a time.
std::int64_t InferenceMemoryOf(const Graph& graph, std::int64_t images, Precision precision);
std::int64_t InferenceMemoryOf(const Graph& graph, std::int64_t images, Precision precision,
                               MemoryModel& model);

}  // namespace fr
