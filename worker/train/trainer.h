#pragma once
// The training loop: one object a rank, all ranks in step.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/sharding/shard_plan.h"
#include "proto/checkpoint.pb.h"
#include "proto/job.pb.h"
#include "worker/checkpoint/checkpoint.h"
#include "worker/data/training_set.h"
#include "worker/data/verification/verification_set.h"
#include "worker/train/sample_position.h"

namespace fr {

class Communicator;
class RunLink;

struct NamedVerificationSet {
  std::string name;
  VerificationSet set;
};

// What the loop works on; all of it outlives the trainer.
struct TrainerInputs {
  const JobSpec& spec;
  const TrainingSet& training_set;
  const std::vector<NamedVerificationSet>& verification_sets;
  const ShardPlan& plan;
  std::filesystem::path run_dir;  // checkpoints go below it
  Communicator& comm;
  RunLink* link;  // on rank 0; null elsewhere
};

class Trainer {
 public:
  // Builds network, head and optimizer from the job's seed: the same on any number of ranks.
  // Collective, like every method. Throws Error(kInvalidArgument) when the set has fewer images
  // than a global batch.
  explicit Trainer(const TrainerInputs& inputs);
  ~Trainer();

  // Continues from the first of `manifests` that can be read, instead of the beginning: what is
  // damaged is named in the log, and the next one is taken. Throws Error(kDataLoss) when none can
  // be, or when one belongs to another network or set of identities.
  void Restore(const std::vector<CheckpointManifest>& manifests);

  // Begins with the backbone that the job's model.pretrained names; a no-op where it names none.
  // Throws as ApplyPretrained does.
  void StartFromPretrained();

  // Trains to the end, with validation, checkpoints and metrics on the way as the job asks. A
  // checkpoint is always made at the end. Returns false where the coordinator has asked the job to
  // stop: a checkpoint was made before the end, at the next point of the curves (train.log_every).
  bool Run();

 private:
  struct Parts;

  void TrainStep();
  void CountSkipped(bool skipped);
  void Trace();
  Progress Position() const;
  void ReportInterval();
  void Report(const std::vector<MetricPoint>& points, const Progress& progress);
  void ValidateAll();
  void StartCheckpoint();
  void CommitFinishedCheckpoint(bool wait);
  std::int64_t total_steps() const;
  bool Due(std::int64_t every) const;

  TrainerInputs inputs_;
  std::int64_t total_batch_ = 0;
  std::int64_t step_ = 0;        // optimizer steps done, those left out with them
  std::int64_t first_step_ = 0;  // of this start
  std::int64_t last_step_ = 0;
  std::int64_t skipped_in_a_row_ = 0;
  bool yield_asked_ = false;  // the same on every rank
  SamplePosition position_;
  std::vector<ValidationResult> validation_;  // the latest of each set
  std::unique_ptr<Parts> parts_;
};

}  // namespace fr
