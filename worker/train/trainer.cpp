#include "worker/train/trainer.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/logging.h"
#include "common/base/memory.h"
#include "common/config/job_config.h"
#include "worker/backbones/run/inference_plan.h"
#include "worker/checkpoint/checkpoint_writer.h"
#include "worker/comm/recorder.h"
#include "worker/eval/verifier.h"
#include "worker/gpu/gpu.h"
#include "worker/model/model.h"
#include "worker/optim/learning_rate.h"
#include "worker/telemetry/event_file.h"
#include "worker/telemetry/metric_points.h"
#include "worker/telemetry/report_text.h"
#include "worker/telemetry/run_link.h"
#include "worker/telemetry/timeline.h"
#include "worker/train/error_text.h"
#include "worker/train/interval.h"
#include "worker/train/network_input.h"
#include "worker/train/step_trace.h"
#include "worker/train/training_step.h"

namespace fr {
namespace {

// Images at a time in validation: large enough for full speed, small enough for any worker.
constexpr int kValidationBatch = 64;
// A job that leaves out so many steps in a row learns nothing any more.
constexpr std::int64_t kMaxSkippedInARow = 10;
constexpr const char* kTensorboardFolder = "tensorboard";

}  // namespace

struct Trainer::Parts {
  explicit Parts(const TrainerInputs& in)
      : comm(in.comm,
             [this](const CollectiveEvent& event) {
               timeline.AddCollective(
                   {event.name, event.begin_ns, event.end_ns, event.bytes, event.background});
             }),
        step(in.spec, in.plan, comm, timeline),
        checkpoints(in.run_dir, in.plan, comm, in.spec.checkpoint().async()),
        trace(timeline, in.spec.train().trace_steps(), in.run_dir) {}

  Timeline timeline;
  RecordingCommunicator comm;
  TrainingStep step;
  Interval interval;
  RankReport report;  // since the last point
  CheckpointWriter checkpoints;
  StepTrace trace;
  std::optional<EventFile> events;  // on rank 0, if the job wants it
};

Trainer::Trainer(const TrainerInputs& inputs)
    : inputs_(inputs), total_batch_(TotalBatchSize(inputs.spec, inputs.comm.world_size())) {
  const std::int64_t images = inputs_.training_set.num_images();
  if (images < total_batch_) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: {} images are fewer than one global batch of {}: lower "
                            "data.batch_size or resources.workers",
                            inputs_.training_set.path().string(), images, total_batch_));
  }
  const std::string mistake = AccumulationMistake(inputs_.spec, inputs_.comm.world_size());
  if (!mistake.empty()) {
    throw Error(ErrorCode::kInvalidArgument, mistake + ": change train.accumulate");
  }
  inputs_.comm.SetDeterministic(inputs_.spec.train().deterministic());
  parts_ = std::make_unique<Parts>(inputs_);
  last_step_ = total_steps();
}

Trainer::~Trainer() = default;

std::int64_t Trainer::total_steps() const {
  const TrainSpec& train = inputs_.spec.train();
  const std::int64_t all = step_ + RemainingSteps(position_, train.epochs(),
                                                  inputs_.training_set.num_images(), total_batch_);
  return train.has_max_steps() ? std::min<std::int64_t>(all, train.max_steps()) : all;
}

void Trainer::Restore(const std::vector<CheckpointManifest>& manifests) {
  for (const CheckpointManifest& manifest : manifests) {
    if (manifest.num_identities() == inputs_.plan.num_identities) continue;
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: this checkpoint is of {} identities, but {} has {}: continue with "
                            "the data it was trained on, or start a new run",
                            manifest.directory(), manifest.num_identities(),
                            inputs_.training_set.path().string(), inputs_.plan.num_identities));
  }
  const CheckpointManifest& manifest =
      ReadNewestCheckpoint(manifests, parts_->step.state(), parts_->comm);
  if (manifest.seed() != inputs_.spec.train().seed() && inputs_.link != nullptr) {
    spdlog::warn(
        "the checkpoint was trained with seed {}, this job says {}: the order of samples changes",
        manifest.seed(), inputs_.spec.train().seed());
  }
  step_ = manifest.step();
  position_ = {manifest.epoch(), manifest.samples_in_epoch()};
  validation_.assign(manifest.validation().begin(), manifest.validation().end());
  last_step_ = total_steps();
}

void Trainer::StartFromPretrained() {
  const ModelSpec& model = inputs_.spec.model();
  if (!model.has_pretrained()) return;
  ApplyPretrained(model.pretrained(), model, parts_->step.backbone().state());
  parts_->step.WeightsSet();
  if (inputs_.link != nullptr) spdlog::info("weights from {}", model.pretrained());
}

bool Trainer::Due(std::int64_t every) const {
  return step_ == last_step_ || (every > 0 && step_ % every == 0);
}

bool Trainer::Run() {
  const JobSpec& spec = inputs_.spec;
  first_step_ = step_;
  if (inputs_.link != nullptr) {
    spdlog::info(
        "{}, {:.1f} million parameters; {} identities over {} ranks; {} images per step; "
        "steps {} to {}",
        Network_Name(spec.model().network()),
        static_cast<double>(parts_->step.backbone().parameters().values().numel()) / 1e6,
        inputs_.plan.num_identities, inputs_.comm.world_size(), total_batch_, step_ + 1,
        last_step_);
    if (spec.train().tensorboard()) {
      parts_->events.emplace(inputs_.run_dir / kTensorboardFolder, step_ == 0 ? 0 : step_ + 1);
    }
  }
  if (step_ == 0 && spec.train().validate_at_start()) ValidateAll();
  parts_->step.StartLoading(inputs_.training_set, position_);
  while (step_ < last_step_ && !yield_asked_) {
    TrainStep();
    CommitFinishedCheckpoint(/*wait=*/false);
    if (Due(spec.train().log_every())) ReportInterval();
    if (Due(spec.train().validate_every())) ValidateAll();
    if (Due(spec.checkpoint().every()) || yield_asked_) StartCheckpoint();
  }
  CommitFinishedCheckpoint(/*wait=*/true);
  parts_->trace.Finish(parts_->comm);
  if (inputs_.link != nullptr) spdlog::info("collectives of rank 0:\n{}", parts_->comm.Table());
  return step_ >= last_step_;
}

void Trainer::TrainStep() {
  Parts& parts = *parts_;
  parts.trace.StepBegins(step_ - first_step_, parts.comm);
  parts.timeline.TakeTimes();  // what was not a step does not count
  position_ = BatchStart(position_, inputs_.training_set.num_images(), total_batch_);
  const double lr = LearningRate(inputs_.spec.optimizer(), step_, last_step_);
  const std::int64_t waited_before_ms = parts.step.waited_ms();
  const StepOutcome outcome = parts.step.Run(step_, lr);
  ++step_;
  position_.samples += total_batch_;
  CountSkipped(outcome.skipped);
  parts.interval.Add(outcome);
  parts.report.wait_ms += static_cast<double>(parts.step.waited_ms() - waited_before_ms);
  const PhaseTimes times = parts.timeline.TakeTimes();
  for (std::size_t phase = 0; phase < kNumPhases; ++phase) {
    parts.report.phase_ms[phase] += times[phase];
  }
}

void Trainer::CountSkipped(bool skipped) {
  skipped_in_a_row_ = skipped ? skipped_in_a_row_ + 1 : 0;
  if (skipped_in_a_row_ <= kMaxSkippedInARow) return;
  throw Error(ErrorCode::kDataLoss,
              fmt::format("step {}: {} steps in a row had values that are not finite: the training "
                          "diverged; lower optimizer.lr or lengthen "
                          "optimizer.schedule.warmup_steps",
                          step_, skipped_in_a_row_));
}

Progress Trainer::Position() const {
  Progress progress;
  progress.set_step(step_);
  progress.set_total_steps(last_step_);
  return progress;
}

void Trainer::ReportInterval() {
  RankReport own = std::exchange(parts_->report, RankReport());
  own.bad_records = static_cast<double>(parts_->step.bad_records());
  own.peak_memory_bytes = static_cast<double>(PeakResidentBytes());
  if (const Gpu* gpu = ProcessGpu()) {
    own.gpu_memory_bytes = static_cast<double>(gpu->memory().peak_held_bytes);
  }
  own.yield_asked = inputs_.link != nullptr && inputs_.link->YieldAsked();
  Interval::Summary summary = parts_->interval.Take(inputs_.spec, step_, own, parts_->comm);
  yield_asked_ = summary.yield_asked;
  if (inputs_.link == nullptr) return;
  const double epochs_done = static_cast<double>(position_.epoch) +
                             static_cast<double>(position_.samples) /
                                 static_cast<double>(inputs_.training_set.num_images());
  summary.points.push_back(
      MakePoint("train/lr", step_, LearningRate(inputs_.spec.optimizer(), step_ - 1, last_step_)));
  summary.points.push_back(MakePoint("train/epoch", step_, epochs_done));
  Progress progress = Position();
  progress.set_epoch(static_cast<std::int32_t>(position_.epoch));
  progress.set_loss(summary.loss);
  progress.set_images_per_second(1000 * static_cast<double>(total_batch_) / summary.step_ms);
  progress.set_seconds_left(static_cast<double>(last_step_ - step_) * summary.step_ms / 1000);
  Report(summary.points, progress);
}

// On rank 0: into the log, to TensorBoard, and to whoever keeps the run.
void Trainer::Report(const std::vector<MetricPoint>& points, const Progress& progress) {
  for (const std::string& line : ReportLines(points, progress)) spdlog::info("{}", line);
  if (parts_->events) parts_->events->Add(points);
  inputs_.link->Report(points, progress);
}

void Trainer::ValidateAll() {
  NetworkState& state = parts_->step.validated();
  state.AverageRunning(parts_->comm);
  validation_.clear();
  if (inputs_.verification_sets.empty()) return;
  InferencePlan network(parts_->step.backbone().graph(), state,
                        {ScalarTypeOf(inputs_.spec.model().precision()), kValidationBatch});
  const EmbedFunction embed = [&](const Batch& batch) {
    return network.Run(NetworkInput(batch)).cpu();
  };
  for (const NamedVerificationSet& named : inputs_.verification_sets) {
    validation_.push_back(
        Verify(embed, named.set, named.name, step_, kValidationBatch, parts_->comm));
  }
  if (inputs_.link == nullptr) return;
  std::vector<MetricPoint> points;
  for (const ValidationResult& result : validation_) {
    for (MetricPoint& point : ValidationPoints(result)) points.push_back(std::move(point));
  }
  Report(points, Position());
}

void Trainer::StartCheckpoint() {
  const std::int64_t began_ms = SteadyMillis();
  CommitFinishedCheckpoint(/*wait=*/true);
  parts_->step.backbone().state().AverageRunning(parts_->comm);
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
  parts_->checkpoints.Start(std::move(manifest), parts_->step.state());
  if (inputs_.link == nullptr) return;
  const auto stall_ms = static_cast<double>(SteadyMillis() - began_ms);
  Report({MakePoint("checkpoint/stall_ms", step_, stall_ms)}, Position());
}

// Commits the checkpoint that was started last once it is written; `wait`: not before.
void Trainer::CommitFinishedCheckpoint(bool wait) {
  const std::optional<WrittenCheckpoint> written = parts_->checkpoints.Finished(wait);
  if (!written || inputs_.link == nullptr) return;
  const CheckpointManifest& manifest = written->manifest;
  spdlog::info("step {}/{}  checkpoint: {}", manifest.step(), last_step_, manifest.directory());
  Report({MakePoint("checkpoint/write_ms", manifest.step(), written->write_ms)}, Position());
  inputs_.link->CommitCheckpoint(manifest);
}

}  // namespace fr
