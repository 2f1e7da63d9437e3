#pragma once
// One optimizer step of one rank: images, forward, head, backward, sum over ranks, update.

#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <torch/torch.h>

#include "common/sharding/shard_plan.h"
#include "proto/job.pb.h"
#include "worker/backbones/run/backbone.h"
#include "worker/checkpoint/checkpoint.h"
#include "worker/comm/gradient_reducer.h"
#include "worker/data/loader.h"
#include "worker/heads/head.h"
#include "worker/optim/optimizer.h"
#include "worker/optim/weight_average.h"
#include "worker/telemetry/timeline.h"
#include "worker/train/image_upload.h"
#include "worker/train/interval.h"
#include "worker/train/sample_position.h"

namespace fr {

class Communicator;

class TrainingStep {
 public:
  // Builds network, head and optimizer from the job's seed: the same on any number of ranks. All
  // that is referred to outlives the step. Collective, like every method.
  TrainingStep(const JobSpec& spec, const ShardPlan& plan, Communicator& comm, Timeline& timeline);

  // Loads from `position` on.
  void StartLoading(const TrainingSet& set, SamplePosition position);

  // Step number `step`, from 0, with the next global batch. A value that is not finite leaves
  // weights, optimizer and averages as they were (but not the head's rows where only the backbone's
  // gradient was bad: they had moved already); with train.non_finite: stop that is
  // Error(kDataLoss), which says the same on every rank: where the value first appeared.
  StepOutcome Run(std::int64_t step, double lr);

  // What a checkpoint holds.
  TrainingState state();
  Backbone& backbone() { return backbone_; }
  // What is validated and given away: the moving average where the job has one.
  NetworkState& validated();
  // To be called when the weights were set from outside: averages begin there.
  void WeightsSet();

  // For reports; the loader's wait is since StartLoading.
  std::int64_t waited_ms() const { return loader_->waited_ms(); }
  std::int64_t bad_records() const { return loader_->bad_records(); }

 private:
  void LoadImages();
  void NextImages();
  void LoadAhead();
  void RunPart(std::int64_t step, int part, double head_lr, StepOutcome* outcome);
  bool Update(std::int64_t step, double lr, StepOutcome* outcome);
  StepOutcome LeaveOut(std::int64_t step, const std::string& what,
                       const at::Tensor& embedding_gradients);
  std::string WhereNotFinite(const at::Tensor& embedding_gradients);

  const JobSpec& spec_;
  Communicator& comm_;
  Timeline& timeline_;
  std::int64_t part_images_;        // of all ranks, in a part of a step
  std::vector<std::int64_t> rows_;  // of these, by rank
  std::int64_t first_row_ = 0;      // this rank's first among them
  Backbone backbone_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<Head> head_;
  std::unique_ptr<WeightAverage> average_;  // null: none
  GradientReducer reducer_;
  std::unique_ptr<Loader> loader_;     // made once it is known where to start
  Batch batch_;                        // whose memory the next one takes
  std::optional<ImageUpload> upload_;  // on a GPU
  // Of the part that comes next, on a GPU: loaded while the one before it was computed.
  bool loaded_ = false;
  std::exception_ptr loading_failed_;
  Draws draws_;
  at::Tensor images_;  // of the part that ran last, as the network took them
  at::Tensor labels_;
};

}  // namespace fr
