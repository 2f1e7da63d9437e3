#include "worker/train/training_step.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/logging.h"
#include "common/base/random.h"
#include "common/config/job_config.h"
#include "worker/comm/communicator.h"
#include "worker/comm/first_text.h"
#include "worker/comm/rows.h"
#include "worker/gpu/gpu.h"
#include "worker/heads/finite.h"
#include "worker/train/head_options.h"
#include "worker/train/network_input.h"

namespace fr {
namespace {

// Of the random numbers that a run draws for other purposes.
constexpr std::uint64_t kDropoutStream = 0xd509;
constexpr double kBytesPerMb = 1 << 20;

std::int64_t BucketElements(const CommunicationSpec& spec) {
  return static_cast<std::int64_t>(spec.bucket_mb() * kBytesPerMb) / 4;
}

TrainingOptions BackboneTraining(const ModelSpec& spec, const CommunicationSpec& communication,
                                 Communicator& comm) {
  TrainingOptions options;
  options.precision = ScalarTypeOf(spec.precision());
  options.recompute = spec.recompute();
  if (spec.batch_norm() == BatchNormMode::global) options.batch_norm_comm = &comm;
  options.graph_elements = BucketElements(communication);
  return options;
}

GradientReducerOptions ReducerOptions(const CommunicationSpec& spec) {
  GradientReducerOptions options;
  options.overlap = spec.overlap();
  options.bucket_bytes = 4 * BucketElements(spec);
  options.wire = spec.gradient_precision() == Precision::bf16 ? Wire::kBFloat16 : Wire::kFloat32;
  return options;
}

Sampling SamplingOf(DataSpec::Order order) {
  switch (order) {
    case DataSpec::windows:
      return Sampling::kWindows;
    case DataSpec::identities:
      return Sampling::kIdentities;
    case DataSpec::shuffled:
      break;
  }
  return Sampling::kShuffled;
}

LoaderOptions MakeLoaderOptions(const JobSpec& spec) {
  LoaderOptions options;
  const DataSpec& data = spec.data();
  options.sampler = {SamplingOf(data.order()), spec.train().seed(), data.window(),
                     data.images_per_identity()};
  const AugmentSpec& augment = data.augment();
  options.augment = {augment.flip(),           augment.crop(), augment.color(),
                     augment.low_resolution(), augment.blur(), augment.cut_out()};
  options.threads = data.loader_threads();
  if (data.bad_records() == DataSpec::skip) options.max_bad_records = data.max_bad_records();
  options.batches_per_step = spec.train().accumulate();
  return options;
}

// Sums where the step's is the sum of its parts', means where it is their mean.
void AddPart(const HeadStepResult& part, double weight, HeadStepResult* sum) {
  sum->loss += weight * part.loss;
  sum->accuracy += weight * part.accuracy;
  sum->dropped_mass = std::max(sum->dropped_mass, part.dropped_mass);
  sum->skipped_share += weight * part.skipped_share;
  sum->own_targets += part.own_targets;
  sum->active_triplets += part.active_triplets;
  sum->active_share += weight * part.active_share;
}

}  // namespace

TrainingStep::TrainingStep(const JobSpec& spec, const ShardPlan& plan, Communicator& comm,
                           Timeline& timeline)
    : spec_(spec),
      comm_(comm),
      timeline_(timeline),
      part_images_(TotalBatchSize(spec, comm.world_size()) / spec.train().accumulate()),
      rows_(EvenParts(part_images_, comm.world_size())),
      first_row_(std::accumulate(rows_.begin(), rows_.begin() + comm.rank(), std::int64_t{0})),
      backbone_(OptionsOf(spec.model()), BackboneTraining(spec.model(), spec.communication(), comm),
                spec.train().seed()),
      optimizer_(MakeOptimizer(spec.optimizer(), backbone_.parameters())),
      head_(MakeHead(spec, plan.ranges[static_cast<std::size_t>(comm.rank())], comm)),
      reducer_(backbone_.parameters().gradients(), comm, ReducerOptions(spec.communication())) {
  WeightsSet();
  if (Gpu* gpu = ProcessGpu()) upload_.emplace(*gpu);
}

void TrainingStep::WeightsSet() {
  if (spec_.train().ema_decay() == 0) return;
  average_ = std::make_unique<WeightAverage>(backbone_.graph(), backbone_.state(),
                                             spec_.train().ema_decay());
}

void TrainingStep::StartLoading(const TrainingSet& set, SamplePosition position) {
  LoaderOptions options = MakeLoaderOptions(spec_);
  options.total_batch = part_images_;
  options.slice_begin = first_row_;
  options.slice_end = first_row_ + rows_[static_cast<std::size_t>(comm_.rank())];
  options.start_epoch = position.epoch;
  options.start_samples = position.samples;
  loader_ = std::make_unique<Loader>(set, options);
  loaded_ = false;
  loading_failed_ = nullptr;
}

TrainingState TrainingStep::state() {
  return {&backbone_.state(), optimizer_.get(), head_.get(),
          average_ == nullptr ? nullptr : &average_->average()};
}

NetworkState& TrainingStep::validated() {
  return average_ == nullptr ? backbone_.state() : average_->average();
}

void TrainingStep::LoadImages() {
  timeline_.Enter(Phase::kData);
  loader_->Next(&batch_);
  if (upload_) upload_->Start(batch_);
}

// images_ and labels_ of the part that comes next.
void TrainingStep::NextImages() {
  if (loading_failed_) std::rethrow_exception(std::exchange(loading_failed_, nullptr));
  if (!std::exchange(loaded_, false)) LoadImages();
  images_ = upload_ ? upload_->Take() : NetworkInput(batch_);
  labels_ = LabelTensor(batch_);
}

StepOutcome TrainingStep::Run(std::int64_t step, double lr) {
  const double head_lr = lr * spec_.optimizer().head_lr_multiplier();
  StepOutcome outcome;
  std::string not_finite;
  for (int part = 0; part < spec_.train().accumulate(); ++part) {
    NextImages();
    if (!not_finite.empty()) continue;  // the images of a step that is left out are used up, too
    try {
      RunPart(step, part, head_lr, &outcome);
    } catch (const NonFiniteError& error) {
      not_finite = error.what();
    }
  }
  if (!not_finite.empty()) return LeaveOut(step, not_finite, at::Tensor());
  if (!Update(step, lr, &outcome)) {
    return LeaveOut(step,
                    fmt::format("the norm of the backbone's gradient is {}", outcome.gradient_norm),
                    outcome.head.embedding_gradients);
  }
  outcome.head.embedding_gradients.reset();
  timeline_.Enter(Phase::kOther);
  return outcome;
}

void TrainingStep::RunPart(std::int64_t step, int part, double head_lr, StepOutcome* outcome) {
  const int parts = spec_.train().accumulate();
  const bool last = part + 1 == parts;
  timeline_.Enter(Phase::kForward);
  draws_.key =
      MixKeys(MixKeys(spec_.train().seed(), kDropoutStream), static_cast<std::uint64_t>(step));
  draws_.first_sample = part * part_images_ + first_row_;
  const at::Tensor embeddings = backbone_.Forward(images_, draws_);

  timeline_.Enter(Phase::kHead);
  HeadStepResult head = parts == 1 ? head_->Step(embeddings, labels_, rows_, head_lr)
                                   : head_->Accumulate(embeddings, labels_, rows_, 1.0 / parts);
  AddPart(head, 1.0 / parts, &outcome->head);
  // Before the backward pass sends gradients off: what is not finite shows while nothing is under
  // way.
  if (parts > 1 && last) head_->Update(head_lr);

  timeline_.Enter(Phase::kBackward);
  // The head's gradients carry 1 / global batch, so the sum over ranks is the mean's gradient.
  backbone_.Backward(head.embedding_gradients, [&](std::int64_t begin, std::int64_t end) {
    if (last) reducer_.Ready(begin, end);
  });
  outcome->head.embedding_gradients = std::move(head.embedding_gradients);
  if (upload_) LoadAhead();
}

// While the GPU computes. What fails now counts when these images are asked for, if they are.
void TrainingStep::LoadAhead() {
  try {
    LoadImages();
    loaded_ = true;
  } catch (const std::exception&) {
    loading_failed_ = std::current_exception();
  }
}

// False, with nothing changed but the gradients, when they are not finite.
bool TrainingStep::Update(std::int64_t step, double lr, StepOutcome* outcome) {
  timeline_.Enter(Phase::kCommunication);
  reducer_.Finish();
  timeline_.Enter(Phase::kOptimizer);
  FlatParameters& parameters = backbone_.parameters();
  outcome->gradient_norm = GradientNorm(parameters.gradients());
  if (!std::isfinite(outcome->gradient_norm)) return false;
  const double scale = ClipFactor(outcome->gradient_norm, spec_.optimizer().clip_norm());
  optimizer_->Step(parameters, {lr, scale, step});
  if (average_ != nullptr) average_->Update(backbone_.state(), step);
  return true;
}

StepOutcome TrainingStep::LeaveOut(std::int64_t step, const std::string& what,
                                   const at::Tensor& embedding_gradients) {
  timeline_.Enter(Phase::kOther);
  backbone_.parameters().gradients().zero_();
  head_->DropAccumulated();
  const std::string text =
      fmt::format("step {}: {}; {}", step + 1, what, WhereNotFinite(embedding_gradients));
  if (spec_.train().non_finite() == TrainSpec::stop) {
    throw Error(ErrorCode::kDataLoss, text +
                                          ": the training diverged; lower optimizer.lr or lengthen "
                                          "optimizer.schedule.warmup_steps");
  }
  if (comm_.rank() == 0) spdlog::warn("{}: the step is left out", text);
  StepOutcome outcome;
  outcome.skipped = true;
  return outcome;
}

// Runs the part that came last again, step by step; the first rank that finds something has the
// word.
std::string TrainingStep::WhereNotFinite(const at::Tensor& embedding_gradients) {
  const std::optional<std::string> own =
      backbone_.FindNonFinite(images_, embedding_gradients, draws_);
  const std::string first =
      FirstText(own ? fmt::format("first on rank {}: {}", comm_.rank(), *own) : "", comm_);
  return first.empty() ? "the network itself is finite in the part that ran last" : first;
}

}  // namespace fr
