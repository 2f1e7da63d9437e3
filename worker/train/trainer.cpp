#include "worker/train/trainer.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/logging.h"
#include "common/config/job_config.h"
#include "worker/backbones/run/backbone.h"
#include "worker/backbones/run/inference_plan.h"
#include "worker/comm/communicator.h"
#include "worker/data/loader.h"
#include "worker/eval/verifier.h"
#include "worker/heads/head.h"
#include "worker/model/model.h"
#include "worker/optim/learning_rate.h"
#include "worker/optim/sgd.h"
#include "worker/telemetry/metric_points.h"
#include "worker/telemetry/report_text.h"
#include "worker/telemetry/run_link.h"
#include "worker/train/head_options.h"
#include "worker/train/network_input.h"

namespace fr {
namespace {

// Images at a time in validation: large enough for full speed, small enough for any worker.
constexpr int kValidationBatch = 64;

TrainingOptions BackboneTraining(const ModelSpec& spec, Communicator& comm) {
  TrainingOptions options;
  options.precision = ScalarTypeOf(spec.precision());
  options.recompute = spec.recompute();
  if (spec.batch_norm() == BatchNormMode::global) options.batch_norm_comm = &comm;
  return options;
}

SgdOptions BackboneSgd(const OptimizerSpec& spec) {
  SgdOptions options;
  options.momentum = spec.momentum();
  options.weight_decay = spec.weight_decay();
  options.clip_norm = spec.clip_norm();
  return options;
}

// A global batch in rank order: as even as it goes, the first ranks take one more.
std::vector<std::int64_t> RowsPerRank(std::int64_t total_batch, int world_size) {
  std::vector<std::int64_t> rows(world_size, total_batch / world_size);
  for (std::int64_t rank = 0; rank < total_batch % world_size; ++rank) ++rows[rank];
  return rows;
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

LoaderOptions MakeLoaderOptions(const JobSpec& spec, const std::vector<std::int64_t>& rows,
                                int rank, SamplePosition start) {
  LoaderOptions options;
  const DataSpec& data = spec.data();
  options.sampler = {SamplingOf(data.order()), spec.train().seed(), data.window(),
                     data.images_per_identity()};
  const AugmentSpec& augment = data.augment();
  options.augment = {augment.flip(),           augment.crop(), augment.color(),
                     augment.low_resolution(), augment.blur(), augment.cut_out()};
  options.threads = data.loader_threads();
  if (data.bad_records() == DataSpec::skip) options.max_bad_records = data.max_bad_records();
  for (int r = 0; r < static_cast<int>(rows.size()); ++r) {
    if (r == rank) options.slice_begin = options.total_batch;
    options.total_batch += rows[r];
    if (r == rank) options.slice_end = options.total_batch;
  }
  options.start_epoch = start.epoch;
  options.start_samples = start.samples;
  return options;
}

}  // namespace

struct Trainer::Parts {
  Parts(const TrainerInputs& in, std::int64_t total_batch)
      : rows(RowsPerRank(total_batch, in.comm.world_size())),
        backbone(OptionsOf(in.spec.model()), BackboneTraining(in.spec.model(), in.comm),
                 in.spec.train().seed()),
        optimizer(BackboneSgd(in.spec.optimizer()), backbone.parameters().values().numel()),
        head(MakeHead(in.spec, in.plan.ranges[in.comm.rank()], in.comm)) {}

  TrainingState state() { return {&backbone.state(), &optimizer, head.get()}; }

  std::vector<std::int64_t> rows;  // of the global batch, per rank
  Backbone backbone;
  Sgd optimizer;
  std::unique_ptr<Head> head;
  std::unique_ptr<Loader> loader;  // made once it is known where to start
  Batch batch;                     // the step's, whose memory the next one takes
};

// Sums since the last report.
struct Trainer::Interval {
  std::int64_t steps = 0;
  double loss = 0;
  double accuracy = 0;
  double gradient_norm = 0;
  double dropped_mass = 0;  // the largest
  double skipped_share = 0;
  double train_ms = 0;  // in steps, without validation and checkpoints
  double wait_ms = 0;   // of that, for the loader
};

Trainer::Trainer(const TrainerInputs& inputs)
    : inputs_(inputs),
      total_batch_(TotalBatchSize(inputs.spec, inputs.comm.world_size())),
      interval_(std::make_unique<Interval>()) {
  const std::int64_t images = inputs_.training_set.num_images();
  if (images < total_batch_) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: {} images are fewer than one global batch of {}: lower "
                            "data.batch_size or resources.workers",
                            inputs_.training_set.path().string(), images, total_batch_));
  }
  parts_ = std::make_unique<Parts>(inputs_, total_batch_);
  last_step_ = total_steps();
}

Trainer::~Trainer() = default;

std::int64_t Trainer::total_steps() const {
  const TrainSpec& train = inputs_.spec.train();
  const std::int64_t all = step_ + RemainingSteps(position_, train.epochs(),
                                                  inputs_.training_set.num_images(), total_batch_);
  return train.has_max_steps() ? std::min<std::int64_t>(all, train.max_steps()) : all;
}

void Trainer::Restore(const CheckpointManifest& manifest) {
  if (manifest.num_identities() != inputs_.plan.num_identities) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: this checkpoint is of {} identities, but {} has {}: continue with "
                            "the data it was trained on, or start a new run",
                            manifest.directory(), manifest.num_identities(),
                            inputs_.training_set.path().string(), inputs_.plan.num_identities));
  }
  if (manifest.seed() != inputs_.spec.train().seed()) {
    spdlog::warn(
        "the checkpoint was trained with seed {}, this job says {}: the order of samples changes",
        manifest.seed(), inputs_.spec.train().seed());
  }
  ReadCheckpoint(manifest, parts_->state());
  step_ = manifest.step();
  position_ = {manifest.epoch(), manifest.samples_in_epoch()};
  validation_.assign(manifest.validation().begin(), manifest.validation().end());
  last_step_ = total_steps();
}

void Trainer::StartFromPretrained() {
  const ModelSpec& model = inputs_.spec.model();
  if (!model.has_pretrained()) return;
  ApplyPretrained(model.pretrained(), model, parts_->backbone.state());
  if (inputs_.link != nullptr) spdlog::info("weights from {}", model.pretrained());
}

bool Trainer::Due(std::int64_t every) const {
  return step_ == last_step_ || (every > 0 && step_ % every == 0);
}

void Trainer::Run() {
  const JobSpec& spec = inputs_.spec;
  if (inputs_.link != nullptr) {
    spdlog::info(
        "{}, {:.1f} million parameters; {} identities over {} ranks; {} images per step; "
        "steps {} to {}",
        Network_Name(spec.model().network()),
        static_cast<double>(parts_->backbone.parameters().values().numel()) / 1e6,
        inputs_.plan.num_identities, inputs_.comm.world_size(), total_batch_, step_ + 1,
        last_step_);
  }
  if (step_ == 0 && spec.train().validate_at_start()) ValidateAll();
  parts_->loader = std::make_unique<Loader>(
      inputs_.training_set, MakeLoaderOptions(spec, parts_->rows, inputs_.comm.rank(), position_));
  while (step_ < last_step_) {
    TrainStep();
    if (Due(spec.train().log_every())) ReportInterval();
    if (Due(spec.train().validate_every())) ValidateAll();
    if (Due(spec.checkpoint().every())) WriteAndCommitCheckpoint();
  }
}

void Trainer::TrainStep() {
  const std::int64_t started_ms = SteadyMillis();
  const std::int64_t waited_before_ms = parts_->loader->waited_ms();
  position_ = BatchStart(position_, inputs_.training_set.num_images(), total_batch_);
  Batch& batch = parts_->batch;
  parts_->loader->Next(&batch);
  const double lr = LearningRate(inputs_.spec.optimizer(), step_, last_step_);

  const torch::Tensor embeddings = parts_->backbone.Forward(NetworkInput(batch));
  const HeadStepResult head = parts_->head->Step(embeddings, LabelTensor(batch), parts_->rows, lr);
  parts_->backbone.Backward(head.embedding_gradients);
  // The head's gradients carry 1 / global batch, so the sum over ranks is the mean's gradient.
  FlatParameters& parameters = parts_->backbone.parameters();
  inputs_.comm.AllReduceSum(parameters.gradients());
  const double gradient_norm =
      parts_->optimizer.Step(parameters.values(), parameters.gradients(), lr);

  ++step_;
  position_.samples += total_batch_;
  interval_->steps += 1;
  interval_->loss += head.loss;
  interval_->accuracy += head.accuracy;
  interval_->gradient_norm += gradient_norm;
  interval_->dropped_mass = std::max(interval_->dropped_mass, head.dropped_mass);
  interval_->skipped_share += head.skipped_share;
  interval_->train_ms += static_cast<double>(SteadyMillis() - started_ms);
  interval_->wait_ms += static_cast<double>(parts_->loader->waited_ms() - waited_before_ms);
}

void Trainer::ReportInterval() {
  const Interval sums = std::exchange(*interval_, Interval{});
  // Every step waits for the rank whose images come last.
  at::Tensor wait_ms = at::tensor({sums.wait_ms}, at::kDouble);
  inputs_.comm.AllReduceMax(wait_ms);
  const std::vector<std::int64_t> bad_records =
      inputs_.comm.AllGather(parts_->loader->bad_records());
  if (inputs_.link == nullptr) return;
  const auto steps = static_cast<double>(sums.steps);
  const double seconds = std::max(sums.train_ms, 1.0) / 1000;
  const double images_per_second = steps * static_cast<double>(total_batch_) / seconds;

  const double epochs_done = static_cast<double>(position_.epoch) +
                             static_cast<double>(position_.samples) /
                                 static_cast<double>(inputs_.training_set.num_images());
  const double lr = LearningRate(inputs_.spec.optimizer(), step_ - 1, last_step_);
  std::vector<MetricPoint> points = {
      MakePoint("train/loss", step_, sums.loss / steps),
      MakePoint("train/accuracy", step_, sums.accuracy / steps),
      MakePoint("train/gradient_norm", step_, sums.gradient_norm / steps),
      MakePoint("train/lr", step_, lr),
      MakePoint("train/images_per_second", step_, images_per_second),
      MakePoint("train/epoch", step_, epochs_done),
      MakePoint("train/data_wait_share", step_,
                wait_ms.item<double>() / std::max(sums.train_ms, 1.0))};
  if (inputs_.spec.data().bad_records() == DataSpec::skip) {
    points.push_back(MakePoint("train/bad_records", step_,
                               std::accumulate(bad_records.begin(), bad_records.end(), 0.0)));
  }
  if (inputs_.spec.loss().mass_tolerance() > 0) {
    points.push_back(MakePoint("head/dropped_mass", step_, sums.dropped_mass));
    points.push_back(MakePoint("head/skipped_share", step_, sums.skipped_share / steps));
  }

  Progress progress;
  progress.set_step(step_);
  progress.set_total_steps(last_step_);
  progress.set_epoch(static_cast<std::int32_t>(position_.epoch));
  progress.set_loss(sums.loss / steps);
  progress.set_images_per_second(images_per_second);
  progress.set_seconds_left(static_cast<double>(last_step_ - step_) * seconds / steps);
  Report(points, progress);
}

// On rank 0: into the log, and to whoever keeps the run.
void Trainer::Report(const std::vector<MetricPoint>& points, const Progress& progress) {
  for (const std::string& line : ReportLines(points, progress)) spdlog::info("{}", line);
  inputs_.link->Report(points, progress);
}

void Trainer::ValidateAll() {
  parts_->backbone.state().AverageRunning(inputs_.comm);
  validation_.clear();
  if (inputs_.verification_sets.empty()) return;
  InferencePlan network(parts_->backbone.graph(), parts_->backbone.state(),
                        {ScalarTypeOf(inputs_.spec.model().precision()), kValidationBatch});
  const EmbedFunction embed = [&](const Batch& batch) { return network.Run(NetworkInput(batch)); };
  for (const NamedVerificationSet& named : inputs_.verification_sets) {
    validation_.push_back(
        Verify(embed, named.set, named.name, step_, kValidationBatch, inputs_.comm));
  }
  if (inputs_.link == nullptr) return;
  Progress progress;
  progress.set_step(step_);
  progress.set_total_steps(last_step_);
  std::vector<MetricPoint> points;
  for (const ValidationResult& result : validation_) {
    for (MetricPoint& point : ValidationPoints(result)) points.push_back(std::move(point));
  }
  Report(points, progress);
}

void Trainer::WriteAndCommitCheckpoint() {
  parts_->backbone.state().AverageRunning(inputs_.comm);
  CheckpointManifest manifest;
  manifest.set_step(step_);
  manifest.set_epoch(static_cast<std::int32_t>(position_.epoch));
  manifest.set_samples_in_epoch(position_.samples);
  manifest.set_seed(inputs_.spec.train().seed());
  manifest.set_created_ms(UnixMillis());
  *manifest.mutable_model() = inputs_.spec.model();
  manifest.set_num_identities(inputs_.plan.num_identities);
  manifest.set_total_batch_size(total_batch_);
  for (const ValidationResult& result : validation_) *manifest.add_validation() = result;
  manifest = WriteCheckpoint(inputs_.run_dir, std::move(manifest), inputs_.plan, parts_->state(),
                             inputs_.comm);
  if (inputs_.link == nullptr) return;
  spdlog::info("step {}/{}  checkpoint: {}", step_, last_step_, manifest.directory());
  inputs_.link->CommitCheckpoint(manifest);
}

}  // namespace fr
