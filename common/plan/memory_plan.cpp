#include "common/plan/memory_plan.h"

#include <algorithm>

#include "common/networks/costs.h"
#include "common/networks/preprocessing.h"
#include "common/plan/training_memory.h"

namespace fr {
namespace {

constexpr std::int64_t kFloat = 4;
constexpr std::int64_t kDouble = 8;
constexpr std::int64_t kMiB = 1 << 20;

// The process before it has a network, and the code that oneDNN writes while it runs: what is left
// of measured workers when all else is taken off.
constexpr std::int64_t kProgramBytes = 165 * kMiB;
// As worker/train/trainer.cpp, worker/data/loader.cpp and worker/heads have them.
constexpr std::int64_t kValidationBatch = 64;
constexpr std::int64_t kLoaderBatches = 4;  // three ahead, and the step's own
constexpr std::int64_t kHeadTileBytes = 192 << 10;
constexpr std::int64_t kHeadColumnStep = 16;
constexpr std::int64_t kHeadBins = 97;

std::int64_t ImageBytes() { return std::int64_t{3} * kImageSide * kImageSide; }

std::int64_t HeadColumns(const JobSpec& spec) {
  return (spec.model().embedding_size() + kHeadColumnStep - 1) / kHeadColumnStep * kHeadColumnStep;
}

// Of weights, or of one of the copies that go with them.
std::int64_t HeadRowBytes(const JobSpec& spec, std::int64_t identities) {
  const std::int64_t bias = spec.loss().bias() ? 1 : 0;
  return identities * spec.loss().sub_centers() * (HeadColumns(spec) + bias) * kFloat;
}

// Of the head; otherwise a row moves as soon as its gradient is there.
bool NeedsWholeGradients(const JobSpec& spec) {
  return spec.train().accumulate() > 1 || spec.optimizer().type() == OptimizerType::lars;
}

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

struct StateBytes {
  std::int64_t trained = 0;
  std::int64_t other = 0;  // running statistics and what never changes
};

StateBytes BackboneBytes(const Graph& graph) {
  StateBytes bytes;
  for (const Parameter& parameter : graph.Parameters()) {
    (parameter.role == Parameter::Role::kTrained ? bytes.trained : bytes.other) +=
        parameter.numel() * kFloat;
  }
  return bytes;
}

// Pairs compared with each other: squared distances, and the masks of who is whose.
std::int64_t TripletBytes(const WorkerShare& share) {
  return 3 * share.total_batch * share.total_batch * kFloat;
}

class Items {
 public:
  void Add(const char* key, const char* text, std::int64_t bytes) {
    if (bytes > 0) items_.push_back({key, text, bytes});
  }
  std::vector<MemoryItem> Take() { return std::move(items_); }

 private:
  std::vector<MemoryItem> items_;
};

void AddHead(Items& items, const JobSpec& spec, const WorkerShare& share) {
  if (spec.loss().type() == LossType::triplet) {
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
  const StateBytes backbone = BackboneBytes(graph);
  const std::int64_t copies = StateCopies(spec.optimizer().type());
  Items items;
  items.Add("weights", "backbone: weights", backbone.trained + backbone.other);
  items.Add("gradients", "backbone: gradients", backbone.trained);
  items.Add("optimizer", "backbone: the optimizer's state", copies * backbone.trained);
  if (spec.train().ema_decay() > 0) {
    items.Add("moving_average", "backbone: the weights' moving average", backbone.trained);
  }
  TrainingMemoryOptions options;
  options.images = share.images_at_once;
  options.precision = spec.model().precision();
  options.recompute = spec.model().recompute();
  const std::int64_t step = TrainingMemoryOf(graph, options).resident;
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
  items.Add("loader", "images loaded ahead", kLoaderBatches * share.images * ImageBytes());
  if (spec.checkpoint().async()) {
    std::int64_t copy = (1 + copies) * backbone.trained + backbone.other;
    if (spec.train().ema_decay() > 0) copy += backbone.trained;
    if (spec.loss().type() != LossType::triplet) {
      copy += (1 + copies) * HeadRowBytes(spec, share.identities);
    }
    items.Add("checkpoint", "the copy that is written while training goes on", copy);
  }
  items.Add("program", "the program itself, LibTorch and MPI", kProgramBytes);
  return items.Take();
}

std::int64_t StateCopies(OptimizerType type) { return type == OptimizerType::adamw ? 2 : 1; }

std::int64_t HeadBytesPerIdentity(const JobSpec& spec) {
  if (spec.loss().type() == LossType::triplet) return 0;
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
