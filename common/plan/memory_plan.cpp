#include "common/plan/memory_plan.h"

#include <algorithm>

#include "common/plan/gpu_memory.h"
#include "common/plan/memory_parts.h"
#include "common/plan/training_memory.h"

namespace fr {
namespace {

// As worker/heads has it.
constexpr std::int64_t kHeadTileBytes = 192 << 10;

// Per thread a tile's logits, the gradients of all embeddings, and sums by sample.
std::int64_t HeadWorkspaceBytes(const JobSpec& spec, const WorkerShare& share) {
  const std::int64_t columns = HeadColumns(spec);
  const std::int64_t tile_rows = std::max<std::int64_t>(24, kHeadTileBytes / (columns * kFloat));
  std::int64_t per_thread =
      (tile_rows + columns) * share.total_batch * kFloat + 8 * share.total_batch * kDouble;
  if (spec.loss().precision() == Precision::bf16) {
    per_thread += tile_rows * (columns + share.total_batch) * kFloat;
  }
  if (spec.loss().mass_tolerance() > 0) {
    per_thread += kHeadBins * share.total_batch * (kFloat + kDouble);
  }
  return per_thread * spec.resources().threads_per_worker();
}

// Embeddings of all workers, once as they come, twice as the products want them, and their
// gradients.
std::int64_t GatheredBytes(const JobSpec& spec, const WorkerShare& share) {
  return 4 * share.total_batch * HeadColumns(spec) * kFloat + 12 * share.total_batch * kDouble;
}

// Pairs compared with each other: squared distances, and the masks of who is whose.
std::int64_t TripletBytes(const WorkerShare& share) {
  return 3 * share.total_batch * share.total_batch * kFloat;
}

void AddHead(MemoryItems& items, const JobSpec& spec, const WorkerShare& share) {
  if (!HasHead(spec)) {
    items.Add("head_workspace", "distances of the batch's pairs", TripletBytes(share));
    items.Add("gathered", "embeddings of all workers, and their gradients",
              GatheredBytes(spec, share));
    return;
  }
  if (share.identities == 0) return;
  const std::int64_t rows = HeadRowBytes(spec, share.identities);
  items.Add("head_weights", "head: weights of the largest shard", rows);
  items.Add("head_state", "head: the optimizer's state",
            StateCopies(spec.optimizer().type()) * rows +
                share.identities * spec.loss().sub_centers() * kFloat);
  if (NeedsWholeGradients(spec)) {
    items.Add("head_gradients", "head: gradients, whole before a row moves", rows);
  }
  items.Add("head_workspace", "head: logits of a tile, by thread", HeadWorkspaceBytes(spec, share));
  items.Add("gathered", "embeddings of all workers, and their gradients",
            GatheredBytes(spec, share));
}

}  // namespace

std::vector<MemoryItem> PlanMemory(const JobSpec& spec, const Graph& graph,
                                   const WorkerShare& share) {
  if (spec.resources().device() == Resources::gpu) return PlanMemoryBesideGpu(spec, graph, share);
  const StateBytes backbone = BackboneBytes(graph);
  const std::int64_t copies = StateCopies(spec.optimizer().type());
  MemoryItems items;
  items.Add("weights", "backbone: weights", backbone.trained + backbone.other);
  items.Add("gradients", "backbone: gradients", backbone.trained);
  items.Add("optimizer", "backbone: the optimizer's state", copies * backbone.trained);
  if (spec.train().ema_decay() > 0) {
    items.Add("moving_average", "backbone: the weights' moving average", backbone.trained);
  }
  const std::int64_t step = TrainingMemoryOf(graph, TrainingOptionsOf(spec, share)).resident;
  items.Add("activations", "activations and their gradients, at the largest moment", step);
  if (spec.data().validation_size() > 0) {
    const std::int64_t validation =
        InferenceMemoryOf(graph, kValidationBatch, spec.model().precision());
    items.Add("validation", "validation's network, as far as it needs more than a step",
              validation - step);
  }
  AddHead(items, spec, share);
  if (spec.resources().workers() > 1) {
    items.Add("messages", "gradients on their way",
              std::min(backbone.trained,
                       static_cast<std::int64_t>(2 * spec.communication().bucket_mb() * kMiB)));
  }
  items.Add("loader", "images loaded ahead", LoaderBytes(share));
  if (spec.checkpoint().async()) {
    items.Add("checkpoint", "the copy that is written while training goes on",
              CheckpointCopyBytes(spec, graph, share));
  }
  items.Add("program", "the program itself, LibTorch and MPI", kProgramBytes);
  return items.Take();
}

std::int64_t StateCopies(OptimizerType type) { return type == OptimizerType::adamw ? 2 : 1; }

std::int64_t HeadBytesPerIdentity(const JobSpec& spec) {
  if (!HasHead(spec)) return 0;
  const std::int64_t copies =
      1 + StateCopies(spec.optimizer().type()) + (NeedsWholeGradients(spec) ? 1 : 0);
  return copies * HeadRowBytes(spec, 1);
}

std::int64_t SumOf(const std::vector<MemoryItem>& items) {
  std::int64_t sum = 0;
  for (const MemoryItem& item : items) sum += item.bytes;
  return sum;
}

}  // namespace fr
