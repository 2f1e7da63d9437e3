#include "common/plan/memory_parts.h"

#include "common/networks/preprocessing.h"

namespace fr {
namespace {

constexpr std::int64_t kHeadColumnStep = 16;  // of a processor's kernels

}  // namespace

StateBytes BackboneBytes(const Graph& graph) {
  StateBytes bytes;
  for (const Parameter& parameter : graph.Parameters()) {
    (parameter.role == Parameter::Role::kTrained ? bytes.trained : bytes.other) +=
        parameter.numel() * kFloat;
  }
  return bytes;
}

TrainingMemoryOptions TrainingOptionsOf(const JobSpec& spec, const WorkerShare& share) {
  TrainingMemoryOptions options;
  options.images = share.images_at_once;
  options.precision = spec.model().precision();
  options.recompute = spec.model().recompute();
  return options;
}

std::int64_t ImageBytes() { return std::int64_t{3} * kImageSide * kImageSide; }

std::int64_t LoaderBytes(const WorkerShare& share) {
  return kLoaderBatches * share.images * ImageBytes();
}

bool HasHead(const JobSpec& spec) { return spec.loss().type() != LossType::triplet; }

bool NeedsWholeGradients(const JobSpec& spec) {
  return spec.train().accumulate() > 1 || spec.optimizer().type() == OptimizerType::lars;
}

std::int64_t HeadColumns(const JobSpec& spec) {
  return (spec.model().embedding_size() + kHeadColumnStep - 1) / kHeadColumnStep * kHeadColumnStep;
}

std::int64_t HeadRowBytes(const JobSpec& spec, std::int64_t identities) {
  const std::int64_t bias = spec.loss().bias() ? 1 : 0;
  return identities * spec.loss().sub_centers() * (HeadColumns(spec) + bias) * kFloat;
}

std::int64_t CheckpointCopyBytes(const JobSpec& spec, const Graph& graph,
                                 const WorkerShare& share) {
  const StateBytes backbone = BackboneBytes(graph);
  const std::int64_t copies = 1 + StateCopies(spec.optimizer().type());
  std::int64_t bytes = copies * backbone.trained + backbone.other;
  if (spec.train().ema_decay() > 0) bytes += backbone.trained;
  if (HasHead(spec)) bytes += copies * HeadRowBytes(spec, share.identities);
  return bytes;
}

}  // namespace fr
