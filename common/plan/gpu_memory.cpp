#include "common/plan/gpu_memory.h"

#include <algorithm>

#include "common/plan/cuda_pool_model.h"
#include "common/plan/gpu_sizes.h"
#include "common/plan/memory_parts.h"
#include "common/plan/training_memory.h"

namespace fr {
namespace {

constexpr std::int64_t kBf16 = 2;
constexpr std::int64_t kLong = 8;
// As worker/train, worker/heads and worker/comm have them.
constexpr std::int64_t kImageSlots = 2;     // one that is worked on, one on its way
constexpr std::int64_t kDrawnRows = 65536;  // of the head at a time, before they go to the GPU
constexpr std::int64_t kAnchorTile = 64;    // of triplets
constexpr std::int64_t kTargetBytes = 24;   // of a sample's target
constexpr std::int64_t kNormAndLabel = 12;  // of a sample, as they travel with its embedding
constexpr std::int64_t kPieceElements = std::int64_t{16} << 20;  // of a sum in rank order

// ---- The backbone

StateBytes StateOnGpu(const Graph& graph) {
  StateBytes bytes;
  for (const Parameter& parameter : graph.Parameters()) {
    const std::int64_t element = parameter.role == Parameter::Role::kCounter ? kLong : kFloat;
    if (parameter.role == Parameter::Role::kTrained) {
      bytes.trained += parameter.numel() * element;
    } else {
      bytes.other += CudaTensorBytes(parameter.numel() * element);
    }
  }
  // One tensor of all that is trained; one each of the others.
  bytes.trained = CudaTensorBytes(bytes.trained);
  return bytes;
}

// What every batch norm keeps by channel, and what the largest sums up in.
std::int64_t BatchNormBytes(const Graph& graph, std::int64_t images) {
  std::int64_t kept = 0;
  std::int64_t largest = 0;
  for (const Node& node : graph.nodes()) {
    if (node.op != Op::kBatchNorm) continue;
    const std::int64_t channels = node.shape[0];
    std::int64_t rows = images;
    for (std::size_t i = 1; i < node.shape.size(); ++i) rows *= node.shape[i];
    kept += CudaTensorBytes(kGpuNormVectors * channels * kFloat) +
            CudaTensorBytes(kGpuNormSums * channels * kDouble) + CudaTensorBytes(kDouble);
    largest = std::max(largest, GpuNormParts(rows, channels) * kGpuNormSums * channels * kFloat);
  }
  return kept + CudaTensorBytes(largest);
}

// As bytes, as float32 and, where the pass is narrower, as it takes them.
std::int64_t InputBytes(const JobSpec& spec, const WorkerShare& share) {
  const std::int64_t values = share.images_at_once * ImageBytes();
  std::int64_t bytes = kImageSlots * CudaTensorBytes(values) + CudaTensorBytes(values * kFloat);
  if (spec.model().precision() == Precision::bf16) bytes += CudaTensorBytes(values * kBf16);
  return bytes;
}

void AddBackbone(MemoryItems& items, const JobSpec& spec, const Graph& graph,
                 const WorkerShare& share) {
  const StateBytes state = StateOnGpu(graph);
  items.Add("weights", "backbone: weights", state.trained + state.other);
  items.Add("gradients", "backbone: gradients", state.trained);
  items.Add("optimizer", "backbone: the optimizer's state",
            StateCopies(spec.optimizer().type()) * state.trained);
  if (spec.train().ema_decay() > 0) {
    items.Add("moving_average", "backbone: the weights' moving average",
              state.trained + state.other);
  }
  TrainingMemoryOptions options = TrainingOptionsOf(spec, share);
  options.caller_has_images = true;
  CudaPoolModel pool;
  const TrainingMemory step = TrainingMemoryOf(graph, options, pool);
  items.Add("weight_copies", "backbone: weights in bfloat16, between the passes",
            step.weight_copies);
  items.Add("activations", "activations and their gradients, at the largest moment",
            step.resident - step.weight_copies);
  items.Add("batch_norms", "batch norms: vectors and sums by channel",
            BatchNormBytes(graph, share.images_at_once));
  if (spec.data().validation_size() > 0) {
    CudaPoolModel own;
    items.Add(
        "validation", "validation's network, as far as it needs more than a step",
        InferenceMemoryOf(graph, kValidationBatch, spec.model().precision(), own) - step.resident);
  }
  items.Add("images", "images: as bytes, twice, and as the network takes them",
            InputBytes(spec, share));
}

// ---- The head

GpuHeadSizes HeadSizesOf(const JobSpec& spec, const WorkerShare& share) {
  return GpuHeadSizesOf(share.identities * spec.loss().sub_centers(), spec.model().embedding_size(),
                        share.total_batch, spec.loss().sub_centers(),
                        spec.loss().precision() == Precision::bf16);
}

// Weights, or one of the copies that go with them.
std::int64_t RowBytesOnGpu(const JobSpec& spec, const WorkerShare& share) {
  const std::int64_t rows = share.identities * spec.loss().sub_centers();
  const std::int64_t bias = spec.loss().bias() ? CudaTensorBytes(rows * kFloat) : 0;
  return CudaTensorBytes(rows * GpuRounded(spec.model().embedding_size()) * kFloat) + bias;
}

// GpuHeadShard::Workspace, the embeddings as operands, and the parts of their gradients.
std::int64_t TileBytes(const GpuHeadSizes& s) {
  const std::int64_t operands = s.planes * s.tile_rows * (s.columns + s.samples) * kBf16;
  const std::int64_t by_row = (3 + 2 * s.sample_blocks) * s.tile_rows * kFloat;
  const std::int64_t by_block = 2 * s.row_blocks * s.samples * kFloat;
  const std::int64_t embeddings = s.planes * s.samples * s.columns * kBf16;
  const std::int64_t gradients =
      (s.Splits(kAssumedMultiprocessors) + 1) * s.samples * s.columns * kFloat;
  return operands + by_row + by_block + embeddings + gradients;
}

// Numbers by sample, and lists of rows where not all take part.
std::int64_t ListBytes(const JobSpec& spec, const WorkerShare& share, const GpuHeadSizes& s) {
  const std::int64_t centers = spec.loss().sub_centers();
  std::int64_t bytes = s.samples * (4 * kDouble + 3 * kFloat + kTargetBytes);
  if (spec.loss().sample_rate() < 1) {
    const double sampled = static_cast<double>(share.identities) * spec.loss().sample_rate() +
                           static_cast<double>(share.total_batch);
    const auto identities = std::min(share.identities, static_cast<std::int64_t>(sampled));
    bytes += identities * (1 + centers) * kLong;
  }
  if (spec.loss().mass_tolerance() > 0) {
    // Bins by identity; all rows' numbers, two masks, and the numbers once more in two lists; mass
    // by bin, as it is summed and twice in float64; and by block.
    bytes += share.identities * kFloat + share.identities * centers * (2 * kLong + 2) +
             kHeadBins * s.samples * 3 * kLong + s.row_blocks * s.samples * kFloat;
  }
  return bytes;
}

// The global batch as it comes, its embeddings, their gradients; and six times the own rows:
// embeddings, directions, both on their way, and the gradients by each.
std::int64_t GatheredOnGpu(const JobSpec& spec, const WorkerShare& share) {
  const std::int64_t row = spec.model().embedding_size() * kFloat;
  return share.total_batch * (3 * row + kNormAndLabel) +
         share.images_at_once * (6 * row + kNormAndLabel);
}

void AddMarginHead(MemoryItems& items, const JobSpec& spec, const WorkerShare& share) {
  const std::int64_t rows = RowBytesOnGpu(spec, share);
  items.Add("head_weights", "head: weights of the largest shard", rows);
  items.Add("head_state", "head: the optimizer's state",
            StateCopies(spec.optimizer().type()) * rows);
  if (NeedsWholeGradients(spec)) {
    items.Add("head_gradients", "head: gradients, whole before a row moves",
              rows + share.identities);  // and a byte that says whether there is one
  }
  const GpuHeadSizes sizes = HeadSizesOf(spec, share);
  items.Add("head_workspace", "head: a tile's operands, and sums of it",
            TileBytes(sizes) + ListBytes(spec, share, sizes));
}

void AddHead(MemoryItems& items, const JobSpec& spec, const WorkerShare& share) {
  if (!HasHead(spec)) {
    items.Add("head_workspace", "distances of some anchors to the batch, and what follows of them",
              2 * kAnchorTile * share.total_batch * kFloat);
  } else if (share.identities > 0) {
    AddMarginHead(items, spec, share);
  } else {
    return;
  }
  items.Add("gathered", "embeddings of all workers, and their gradients",
            GatheredOnGpu(spec, share));
}

// ---- Beside them

// NCCL sums float32 where it lies; sums in rank order have the parts of all ranks beside each
// other, and in bfloat16 the rounded gradients and the own part's sum, too.
std::int64_t MessageBytes(const JobSpec& spec, const Graph& graph) {
  const CommunicationSpec& communication = spec.communication();
  std::int64_t elements = std::min(kPieceElements, BackboneBytes(graph).trained / kFloat);
  if (communication.overlap()) {
    const double bucket = communication.bucket_mb() * static_cast<double>(kMiB) / kFloat;
    elements = std::min(elements, static_cast<std::int64_t>(bucket));
  }
  if (communication.gradient_precision() == Precision::bf16) {
    return elements * (2 * kBf16) + elements / spec.resources().workers() * kFloat;
  }
  return spec.train().deterministic() ? elements * kFloat : 0;
}

}  // namespace

std::vector<MemoryItem> PlanGpuMemory(const JobSpec& spec, const Graph& graph,
                                      const WorkerShare& share) {
  MemoryItems items;
  AddBackbone(items, spec, graph, share);
  AddHead(items, spec, share);
  if (spec.resources().workers() > 1) {
    items.Add("messages", "gradients on their way", MessageBytes(spec, graph));
    items.Add("nccl", "NCCL's buffers (an allowance)", kNcclBytes);
  }
  items.Add("libraries", "what cuDNN and cuBLAS work in (an allowance)", kGpuLibraryBytes);
  items.Add("context", "the CUDA context and its kernels (an allowance)", kGpuContextBytes);
  return items.Take();
}

std::vector<MemoryItem> PlanMemoryBesideGpu(const JobSpec& spec, const Graph& graph,
                                            const WorkerShare& share) {
  MemoryItems items;
  if (HasHead(spec)) {
    const std::int64_t rows = std::min(kDrawnRows, share.identities * spec.loss().sub_centers());
    items.Add("head_start", "head: first weights, on their way to the GPU",
              rows * spec.model().embedding_size() * kFloat);
  }
  items.Add("loader", "images loaded ahead", LoaderBytes(share));
  if (spec.checkpoint().async()) {
    items.Add("checkpoint", "the copy that is written while training goes on",
              CheckpointCopyBytes(spec, graph, share));
  } else {
    // One tensor at a time.
    const std::int64_t rows = HasHead(spec) ? HeadRowBytes(spec, share.identities) : 0;
    items.Add("checkpoint", "the part of a checkpoint that is being written",
              std::max(rows, BackboneBytes(graph).trained));
  }
  items.Add("program", "the program itself, LibTorch and MPI", kProgramBytes);
  items.Add("cuda", "CUDA's libraries and the driver (an allowance)", kCudaHostBytes);
  return items.Take();
}

}  // namespace fr
