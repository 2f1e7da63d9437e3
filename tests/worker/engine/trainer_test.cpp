// The whole training loop, at as many ranks as there are.

#include "worker/train/trainer.h"

#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "common/store/run_store.h"
#include "tests/worker/engine/device.h"
#include "worker/checkpoint/checkpoint.h"
#include "worker/checkpoint/safetensors.h"
#include "worker/data/records/record_set.h"
#include "worker/data/synth/synthetic_set.h"
#include "worker/telemetry/run_link.h"

namespace fr {
namespace {

constexpr int kIdentities = 13;  // divides by neither 2, 3 nor 4

JobSpec SmallJob(int max_steps) {
  JobSpec spec;
  spec.set_name("small");
  spec.mutable_data()->set_total_batch_size(7);
  spec.mutable_data()->mutable_augment()->set_color(0.3);
  spec.mutable_data()->mutable_augment()->set_cut_out(0.3);
  // Well conditioned: MobileFaceNet with so few images makes 1e-8 of rounding 1e-3 in ten steps, at
  // any learning rate that trains.
  spec.mutable_model()->set_network(Network::r18);
  spec.mutable_model()->set_embedding_size(32);
  spec.mutable_model()->set_batch_norm(BatchNormMode::global);
  spec.mutable_loss()->set_margin(0.3);
  spec.mutable_loss()->set_scale(16);
  spec.mutable_optimizer()->set_lr(0.003);
  spec.mutable_optimizer()->set_clip_norm(1);
  spec.mutable_train()->set_epochs(100);
  spec.mutable_train()->set_max_steps(max_steps);
  spec.mutable_train()->set_log_every(1);
  spec.mutable_train()->set_validate_every(0);
  spec.mutable_train()->set_validate_at_start(false);
  spec.mutable_checkpoint()->set_every(0);
  return spec;
}

// Keeps what a run says.
class RecordingLink : public RunLink {
 public:
  Assignment Begin(int) override { return {}; }
  ShardPlan Plan(std::int64_t, std::int64_t, const std::vector<std::int64_t>&) override {
    return {};
  }
  void Report(const std::vector<MetricPoint>& points, const Progress&) override {
    for (const MetricPoint& point : points) values[point.name()][point.step()] = point.value();
  }
  void CommitCheckpoint(const CheckpointManifest& manifest) override {
    checkpoints[manifest.step()] = manifest;
  }
  void Finish(WorkerOutcome, const std::string&, std::int64_t) override {}

  std::map<std::string, std::map<std::int64_t, double>> values;
  std::map<std::int64_t, CheckpointManifest> checkpoints;
};

class TrainerTest : public testing::Test {
 protected:
  void SetUp() override {
    // Every rank needs the same directory: rank 0's.
    path_ = comm_.BroadcastBytes(directory_.path().string(), 0);
    if (comm_.rank() == 0) {
      SyntheticSetOptions options;
      options.identities = kIdentities;
      options.images_per_identity = 6;
      options.held_out_identities = 4;
      options.max_pairs = 10;
      WriteSyntheticSet(path_ / "set", options);
    }
    comm_.Barrier();
  }
  void TearDown() override { comm_.Barrier(); }

  // Runs `spec` over `comm` from `from`, if given; the link is rank 0's.
  void Train(const JobSpec& spec, Communicator& comm, const std::filesystem::path& run_dir,
             RecordingLink* link, const std::vector<CheckpointManifest>& from = {}) {
    const auto set = OpenTrainingSet(path_ / set_);
    std::vector<NamedVerificationSet> verification;
    verification.push_back({"synth", VerificationSet::Open(path_ / "set" / "synth.bin")});
    ShardPlan plan =
        PlanShards(set->num_identities(), 1, std::vector<std::int64_t>(comm.world_size(), 1000));
    Trainer trainer(
        {spec, *set, verification, plan, run_dir, comm, comm.rank() == 0 ? link : nullptr});
    if (!from.empty()) {
      trainer.Restore(from);
    } else {
      trainer.StartFromPretrained();
    }
    trainer.Run();
  }

  void ExpectContinuation(JobSpec spec, int middle);
  void ExpectSameAsOneRank(const JobSpec& spec, double tolerance);

  // Four identities with three images each, all of them in every step, unchanged: what training
  // does shows in the loss, and not what the step's images happen to be.
  void TrainOnTheSameTwelveImages(JobSpec* spec) {
    if (comm_.rank() == 0 && set_ != "few") {
      SyntheticSetOptions options;
      options.identities = 4;
      options.images_per_identity = 3;
      options.held_out_identities = 4;
      options.max_pairs = 10;
      WriteSyntheticSet(path_ / "few", options);
    }
    comm_.Barrier();
    set_ = "few";
    spec->mutable_data()->set_total_batch_size(12);
    spec->mutable_data()->mutable_augment()->set_flip(0);
    spec->mutable_data()->mutable_augment()->set_color(0);
    spec->mutable_data()->mutable_augment()->set_cut_out(0);
  }

  // Rank 0's checkpoints of these steps, on every rank.
  std::vector<CheckpointManifest> Checkpoints(RecordingLink& link, std::vector<int> steps) {
    std::vector<CheckpointManifest> manifests;
    for (const int step : steps) {
      const std::string bytes = comm_.BroadcastBytes(
          comm_.rank() == 0 ? link.checkpoints.at(step).SerializeAsString() : "", 0);
      manifests.emplace_back();
      EXPECT_TRUE(manifests.back().ParseFromString(bytes));
    }
    return manifests;
  }

  TemporaryDirectory directory_;
  TestCommunicator comm_;
  std::filesystem::path path_;
  std::string set_ = "set";  // below path_: what Train trains on
};

void TrainerTest::ExpectSameAsOneRank(const JobSpec& spec, double tolerance) {
  RecordingLink many;
  Train(spec, comm_, path_ / "many", &many);
  if (comm_.rank() == 0) {
    TestCommunicator self(TestCommunicator::Self{});
    RecordingLink one;
    Train(spec, self, path_ / "one", &one);
    ASSERT_EQ(one.values["train/loss"].size(), static_cast<std::size_t>(spec.train().max_steps()));
    for (const auto& [step, loss] : one.values["train/loss"]) {
      EXPECT_NEAR(many.values["train/loss"][step], loss, tolerance * std::abs(loss))
          << "step " << step;
    }
  }
}

// The promise of the whole service: the same job at any number of ranks is the same job. Over 20
// steps the loss of N ranks is that of one within 1e-4.
TEST_F(TrainerTest, AnyNumberOfRanksGivesTheSameLossCurve) {
  if (comm_.world_size() == 1) GTEST_SKIP() << "one rank is what the others are compared with";
  RecordingLink many;
  Train(SmallJob(20), comm_, path_ / "many", &many);
  if (comm_.rank() == 0) {
    TestCommunicator self(TestCommunicator::Self{});
    RecordingLink one;
    Train(SmallJob(20), self, path_ / "one", &one);
    ASSERT_EQ(one.values["train/loss"].size(), 20U);
    for (const auto& [step, loss] : one.values["train/loss"]) {
      EXPECT_NEAR(many.values["train/loss"][step], loss, 1e-4 * std::abs(loss)) << "step " << step;
    }
    // It is training that is compared, not standing still.
    EXPECT_LT(one.values["train/loss"][20], 0.98 * one.values["train/loss"][1]);
    const double norm = one.values["val/synth/embedding_norm"][20];
    EXPECT_NEAR(many.values["val/synth/embedding_norm"][20], norm, 1e-3 * norm);
  }
}

// Images in groups of an identity, one of them broken on the disk: the loss goes on, and the curve
// of bad records counts it.
TEST_F(TrainerTest, ABrokenImageIsCountedAndLeftOut) {
  if (comm_.rank() == 0) {
    const RecordSet set(path_ / "set");
    std::fstream file(path_ / "set/train.rec", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(set.StoragePosition(7)) + 32);  // behind the headers
    file << "no picture";
  }
  comm_.Barrier();
  JobSpec spec = SmallJob(13 * 6 / 7 + 1);
  spec.mutable_data()->set_order(DataSpec::identities);
  spec.mutable_data()->set_images_per_identity(3);
  spec.mutable_data()->set_bad_records(DataSpec::skip);
  spec.mutable_model()->set_network(Network::mbf);
  RecordingLink link;
  Train(spec, comm_, path_ / "run", &link);
  if (comm_.rank() == 0) {
    const double count = link.values["train/bad_records"].rbegin()->second;
    EXPECT_GE(count, 1);
    EXPECT_LE(count, comm_.world_size());
    EXPECT_TRUE(std::isfinite(link.values["train/loss"].rbegin()->second));
  }
}

// Stopped after `middle` steps and continued, also at another number of ranks, it is the run that
// was never stopped.
void TrainerTest::ExpectContinuation(JobSpec spec, int middle) {
  spec.mutable_checkpoint()->set_every(middle);
  spec.mutable_train()->set_deterministic(true);
  RecordingLink whole;
  Train(spec, comm_, path_ / "whole", &whole);
  const std::vector<CheckpointManifest> from = Checkpoints(whole, {middle});
  RecordingLink continued;
  Train(spec, comm_, path_ / "continued", &continued, from);
  if (comm_.rank() != 0) return;
  EXPECT_EQ(continued.values["train/loss"].begin()->first, middle + 1);
  for (const std::string curve : {"train/loss", "train/gradient_norm"}) {
    for (const auto& [step, value] : continued.values[curve]) {
      EXPECT_EQ(value, whole.values[curve][step]) << curve << " of step " << step;  // bit by bit
    }
  }
  TestCommunicator self(TestCommunicator::Self{});
  RecordingLink alone;
  Train(spec, self, path_ / "alone", &alone, from);
  for (const auto& [step, loss] : alone.values["train/loss"]) {
    EXPECT_NEAR(loss, whole.values["train/loss"][step], 1e-4 * std::abs(loss)) << step;
  }
}

TEST_F(TrainerTest, ARunContinuesFromItsCheckpoint) { ExpectContinuation(SmallJob(8), 4); }

// With a margin that has a memory, several rows an identity, samples drawn by step, and images in
// windows.
TEST_F(TrainerTest, ARunOfAnotherMarginContinuesFromItsCheckpoint) {
  JobSpec spec = SmallJob(4);
  spec.mutable_data()->set_order(DataSpec::windows);
  spec.mutable_data()->set_window(20);
  spec.mutable_loss()->set_type(LossType::adaface);
  spec.mutable_loss()->set_sub_centers(2);
  spec.mutable_loss()->set_sample_rate(0.6);
  spec.mutable_loss()->set_mass_tolerance(1e-3);
  ExpectContinuation(spec, 2);
}

// Groups of three images; losses that compare them.
JobSpec TripletJob(int max_steps, TripletSpec::Mining mining) {
  JobSpec spec = SmallJob(max_steps);
  spec.mutable_data()->set_total_batch_size(12);
  spec.mutable_data()->set_order(DataSpec::identities);
  spec.mutable_data()->set_images_per_identity(3);
  spec.clear_loss();
  spec.mutable_loss()->set_type(LossType::triplet);
  spec.mutable_loss()->mutable_triplet()->set_mining(mining);
  return spec;
}

// Triplets are of the global batch: chosen alike, and so learnt alike, at any number of ranks.
TEST_F(TrainerTest, TripletsAreTheSameAtAnyNumberOfRanks) {
  if (comm_.world_size() == 1) GTEST_SKIP() << "one rank is what the others are compared with";
  ExpectSameAsOneRank(TripletJob(6, TripletSpec::semi_hard), 1e-4);
}

// What the farthest positive and the nearest negative of every anchor cost is learnt away.
TEST_F(TrainerTest, TripletsAreLearnt) {
  JobSpec spec = TripletJob(6, TripletSpec::hard);
  TrainOnTheSameTwelveImages(&spec);
  spec.mutable_model()->set_network(Network::mbf);
  spec.mutable_optimizer()->set_lr(0.02);
  RecordingLink link;
  Train(spec, comm_, path_ / "run", &link);
  if (comm_.rank() != 0) return;
  EXPECT_LT(link.values["train/loss"][6], 0.5 * link.values["train/loss"][1]);
}

// There are no rows to save, but the step is: it draws the negatives.
TEST_F(TrainerTest, ARunOfTripletsContinuesFromItsCheckpoint) {
  ExpectContinuation(TripletJob(4, TripletSpec::semi_hard), 2);
  const std::filesystem::path checkpoint = path_ / "whole/checkpoints/step-0000000002";
  EXPECT_TRUE(std::filesystem::exists(checkpoint / "backbone.safetensors"));
  for (const auto& entry : std::filesystem::directory_iterator(checkpoint)) {
    EXPECT_FALSE(entry.path().filename().string().starts_with("head-")) << entry.path();
  }
}

// Another run begins with the backbone of a checkpoint: on the same images it says the same.
TEST_F(TrainerTest, ARunStartsFromPretrainedWeights) {
  JobSpec spec = SmallJob(2);
  RecordingLink first;
  Train(spec, comm_, path_ / "first", &first);
  const std::string directory = comm_.BroadcastBytes(
      comm_.rank() == 0 ? first.checkpoints.at(2).directory() : std::string(), 0);
  spec.mutable_model()->set_pretrained(directory);
  spec.mutable_train()->set_seed(99);
  spec.mutable_train()->set_max_steps(1);
  spec.mutable_train()->set_validate_at_start(true);
  RecordingLink second;
  Train(spec, comm_, path_ / "second", &second);
  if (comm_.rank() == 0) {
    const double norm = first.values["val/synth/embedding_norm"][2];
    EXPECT_NEAR(second.values["val/synth/embedding_norm"][0], norm, 1e-6 * norm);
  }
  spec.mutable_model()->set_network(Network::mbf);
  try {
    Train(spec, comm_, path_ / "third", &second);
    FAIL() << "another network";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(std::string(error.what()).find("r18"), std::string::npos) << error.what();
  }
}

// bfloat16 and recomputation through the whole loop: what is learnt is nearly the same.
TEST_F(TrainerTest, Bfloat16AndRecomputationTrainAlike) {
  JobSpec spec = SmallJob(6);
  RecordingLink expected;
  Train(spec, comm_, path_ / "fp32", &expected);
  spec.mutable_model()->set_precision(Precision::bf16);
  spec.mutable_model()->set_recompute(true);
  RecordingLink link;
  Train(spec, comm_, path_ / "bf16", &link);
  for (const auto& [step, loss] : expected.values["train/loss"]) {
    EXPECT_NEAR(link.values["train/loss"][step], loss, 0.05 * std::abs(loss)) << step;
  }
}

// Everything that has a state, on its own way through a checkpoint: another optimizer, moving
// averages, a step in parts, dropout.
TEST_F(TrainerTest, ARunWithAllThatHasAStateContinuesFromItsCheckpoint) {
  JobSpec spec = SmallJob(4);
  spec.mutable_data()->set_total_batch_size(8);
  spec.mutable_model()->set_dropout(0.3);
  spec.mutable_optimizer()->set_type(OptimizerType::adamw);
  spec.mutable_optimizer()->set_lr(0.0005);
  spec.mutable_train()->set_accumulate(2);
  spec.mutable_train()->set_ema_decay(0.9);
  ExpectContinuation(spec, 2);
}

// A run on two threads a rank gives the same bits twice.
TEST_F(TrainerTest, DeterministicRunsAreTheSameBits) {
  JobSpec spec = SmallJob(3);
  spec.mutable_train()->set_deterministic(true);
  at::set_num_threads(2);
  RecordingLink first;
  RecordingLink second;
  Train(spec, comm_, path_ / "first", &first);
  Train(spec, comm_, path_ / "second", &second);
  at::set_num_threads(1);
  EXPECT_EQ(first.values["train/loss"], second.values["train/loss"]);
  EXPECT_EQ(first.values["train/gradient_norm"], second.values["train/gradient_norm"]);
}

// Which values dropout drops is a function of the sample's place, not of who computes it.
TEST_F(TrainerTest, DropoutIsTheSameOnAnyNumberOfRanks) {
  if (comm_.world_size() == 1) GTEST_SKIP() << "one rank is what the others are compared with";
  JobSpec spec = SmallJob(4);
  spec.mutable_model()->set_dropout(0.4);
  ExpectSameAsOneRank(spec, 1e-4);
}

// A step in parts trains on the images that it would train on as a whole, and learns them; batch
// norm sees them in parts, so the numbers are others.
TEST_F(TrainerTest, AStepInPartsTrainsOnTheSameImages) {
  JobSpec spec = SmallJob(6);
  TrainOnTheSameTwelveImages(&spec);
  spec.mutable_train()->set_accumulate(3);
  RecordingLink parts;
  Train(spec, comm_, path_ / "parts", &parts);
  spec.mutable_train()->set_accumulate(1);
  RecordingLink whole;
  Train(spec, comm_, path_ / "whole", &whole);
  for (const std::string curve : {"train/epoch", "train/lr", "shard/0/targets"}) {
    EXPECT_EQ(parts.values[curve], whole.values[curve]) << curve;
  }
  if (comm_.rank() == 0) {
    EXPECT_LT(parts.values["train/loss"][6], 0.9 * parts.values["train/loss"][1]);
  }
}

// In parts or not, on as many ranks as there are: the same job.
TEST_F(TrainerTest, AStepInPartsIsTheSameOnAnyNumberOfRanks) {
  if (comm_.world_size() == 1) GTEST_SKIP() << "one rank is what the others are compared with";
  JobSpec spec = SmallJob(4);
  spec.mutable_data()->set_total_batch_size(10);
  spec.mutable_train()->set_accumulate(2);
  ExpectSameAsOneRank(spec, 1e-4);
}

// When gradients travel, and in which messages, changes nothing; in bfloat16 it changes little.
TEST_F(TrainerTest, HowGradientsTravelChangesNothing) {
  JobSpec spec = SmallJob(5);
  spec.mutable_train()->set_deterministic(true);
  spec.mutable_communication()->set_overlap(false);
  RecordingLink late;
  Train(spec, comm_, path_ / "late", &late);
  spec.mutable_communication()->set_overlap(true);
  spec.mutable_communication()->set_bucket_mb(0.5);
  RecordingLink early;
  Train(spec, comm_, path_ / "early", &early);
  EXPECT_EQ(early.values["train/loss"], late.values["train/loss"]);
  spec.mutable_communication()->set_gradient_precision(Precision::bf16);
  RecordingLink narrow;
  Train(spec, comm_, path_ / "narrow", &narrow);
  for (const auto& [step, loss] : late.values["train/loss"]) {
    EXPECT_NEAR(narrow.values["train/loss"][step], loss, 0.02 * std::abs(loss)) << step;
  }
}

// The optimizers that a job can ask for learn; with averages, what is validated is the average.
TEST_F(TrainerTest, EveryOptimizerLearns) {
  for (const OptimizerType type : {OptimizerType::sgd, OptimizerType::adamw, OptimizerType::lars}) {
    JobSpec spec = SmallJob(8);
    TrainOnTheSameTwelveImages(&spec);
    spec.mutable_model()->set_network(Network::mbf);
    OptimizerSpec& optimizer = *spec.mutable_optimizer();
    optimizer.set_type(type);
    optimizer.set_nesterov(type == OptimizerType::sgd);
    optimizer.set_lr(type == OptimizerType::lars    ? 2
                     : type == OptimizerType::adamw ? 0.0005
                                                    : 0.003);
    optimizer.set_decay_norms_and_biases(false);
    RecordingLink link;
    Train(spec, comm_, path_ / OptimizerType_Name(type), &link);
    if (comm_.rank() == 0) {
      EXPECT_LT(link.values["train/loss"][8], 0.9 * link.values["train/loss"][1])
          << OptimizerType_Name(type);
    }
  }
}

// A weight that is not a number stops the run, which says where; or its steps are left out, and no
// more than ten of them.
TEST_F(TrainerTest, ValuesThatAreNotFiniteAreNamed) {
  JobSpec spec = SmallJob(1);
  RecordingLink first;
  Train(spec, comm_, path_ / "first", &first);
  const std::string good = comm_.BroadcastBytes(
      comm_.rank() == 0 ? first.checkpoints.at(1).directory() : std::string(), 0);
  if (comm_.rank() == 0) {
    const SafetensorsFile file(std::filesystem::path(good) / "backbone.safetensors");
    NamedTensors tensors;
    for (const std::string& name : file.names()) {
      tensors.emplace_back(name, file.Read(name));
      if (name == "layer2.0.conv1.weight") {
        tensors.back().second.view({-1})[5] = std::numeric_limits<float>::quiet_NaN();
      }
    }
    CheckpointManifest manifest = ReadManifest(good);
    const WrittenFile written = WriteSafetensors(
        std::filesystem::path(good) / "backbone.safetensors", tensors, file.metadata());
    for (CheckpointFile& entry : *manifest.mutable_files()) {
      if (entry.name() != "backbone.safetensors") continue;
      entry.set_bytes(written.bytes);
      entry.set_xxh3(written.xxh3);
    }
    first.checkpoints[1] = manifest;
  }
  const std::vector<CheckpointManifest> from = Checkpoints(first, {1});
  spec.mutable_train()->set_max_steps(20);
  RecordingLink link;
  const auto failure = [&] {
    try {
      Train(spec, comm_, path_ / "bad", &link, from);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
      return std::string(error.what());
    }
    return std::string("it went on");
  };
  EXPECT_THAT(failure(), testing::AllOf(testing::HasSubstr("step 2"), testing::HasSubstr("rank 0"),
                                        testing::HasSubstr("layer2.0.conv1.weight")));
  spec.mutable_train()->set_non_finite(TrainSpec::skip);
  EXPECT_THAT(failure(), testing::HasSubstr("11 steps in a row"));
  if (comm_.rank() == 0) {
    EXPECT_EQ(link.values["train/skipped_steps"][11], 10);
    EXPECT_FALSE(link.values["train/loss"].contains(11));
  }
}

// Validation shows the averages: with a decay near 1 they stay where they began.
TEST_F(TrainerTest, MovingAveragesAreWhatIsValidated) {
  JobSpec spec = SmallJob(6);
  spec.mutable_train()->set_validate_at_start(true);
  RecordingLink plain;
  Train(spec, comm_, path_ / "plain", &plain);
  spec.mutable_train()->set_ema_decay(0.99);
  RecordingLink averaged;
  Train(spec, comm_, path_ / "averaged", &averaged);
  if (comm_.rank() != 0) return;
  EXPECT_EQ(plain.values["train/loss"], averaged.values["train/loss"]);
  const std::string curve = "val/synth/embedding_norm";
  EXPECT_EQ(plain.values[curve][0], averaged.values[curve][0]);
  EXPECT_NE(plain.values[curve][6], averaged.values[curve][6]);
  const CheckpointManifest manifest = averaged.checkpoints.at(6);
  EXPECT_TRUE(
      std::filesystem::exists(std::filesystem::path(manifest.directory()) / "average.safetensors"));
}

// Curves say where the time goes, whom the shards serve and how much memory there was; the trace
// has the phases and collectives of every rank.
TEST_F(TrainerTest, AStepsTimeIsAccountedFor) {
  JobSpec spec = SmallJob(6);
  spec.mutable_train()->set_trace_steps(2);
  RecordingLink link;
  Train(spec, comm_, path_ / "run", &link);
  if (comm_.rank() != 0) return;
  double sum = 0;
  for (const std::string phase :
       {"data", "forward", "head", "backward", "communication", "optimizer", "other"}) {
    const std::string name = "train/time/" + phase + "_ms";
    ASSERT_EQ(link.values[name].size(), 6U) << name;
    sum += link.values[name][6];
  }
  EXPECT_NEAR(7000 / sum, link.values["train/images_per_second"][6], 1e-6 * 7000 / sum);
  double targets = 0;
  for (int rank = 0; rank < comm_.world_size(); ++rank) {
    targets += link.values[fmt::format("shard/{}/targets", rank)][6];
  }
  EXPECT_NEAR(targets, 1, 1e-9);
  EXPECT_GT(link.values["train/memory_gib"][6], 0.01);

  const nlohmann::json trace = nlohmann::json::parse(ReadFile(path_ / "run/trace.json"));
  std::map<std::string, int> count;
  std::set<int> ranks;
  for (const nlohmann::json& event : trace.at("traceEvents")) {
    if (event.at("ph") != "X") continue;
    ++count[event.at("name")];
    ranks.insert(event.at("pid").get<int>());
  }
  EXPECT_EQ(ranks.size(), static_cast<std::size_t>(comm_.world_size()));
  EXPECT_EQ(count["forward"], 2 * comm_.world_size());
  EXPECT_EQ(count["optimizer"], 2 * comm_.world_size());
  EXPECT_FALSE(std::filesystem::is_empty(path_ / "run/tensorboard"));
}

// Written beside the training or by it: the same files.
TEST_F(TrainerTest, ACheckpointWrittenBesideTheTrainingIsTheSame) {
  JobSpec spec = SmallJob(4);
  spec.mutable_train()->set_deterministic(true);
  spec.mutable_checkpoint()->set_every(2);
  RecordingLink beside;
  Train(spec, comm_, path_ / "beside", &beside);
  spec.mutable_checkpoint()->set_async(false);
  RecordingLink within;
  Train(spec, comm_, path_ / "within", &within);
  if (comm_.rank() != 0) return;
  for (const int step : {2, 4}) {
    const CheckpointManifest& one = beside.checkpoints.at(step);
    const CheckpointManifest& other = within.checkpoints.at(step);
    ASSERT_EQ(one.files_size(), other.files_size());
    for (int i = 0; i < one.files_size(); ++i) {
      EXPECT_EQ(one.files(i).xxh3(), other.files(i).xxh3()) << one.files(i).name();
    }
    EXPECT_EQ(one.epoch(), other.epoch());
    EXPECT_TRUE(beside.values["checkpoint/stall_ms"].contains(step));
    EXPECT_TRUE(beside.values["checkpoint/write_ms"].contains(step));
  }
}

// A checkpoint with one bit changed is refused by name, and the one before it is taken, on every
// rank; where there is none before it, nothing is trained.
TEST_F(TrainerTest, ADamagedCheckpointIsRefusedAndTheOneBeforeTaken) {
  JobSpec spec = SmallJob(4);
  spec.mutable_checkpoint()->set_every(2);
  RecordingLink link;
  Train(spec, comm_, path_ / "run", &link);
  const std::vector<CheckpointManifest> manifests = Checkpoints(link, {4, 2});
  // Of the last rank's own part of the head, which the others do not read.
  const std::string damaged = manifests[0].files(manifests[0].files_size() - 1).name();
  if (comm_.rank() == 0) {
    const std::filesystem::path file = std::filesystem::path(manifests[0].directory()) / damaged;
    std::string content = ReadFile(file);
    content[content.size() / 2] ^= 1;
    WriteFileAtomically(file, content);
  }
  comm_.Barrier();
  spec.mutable_train()->set_max_steps(5);
  RecordingLink continued;
  Train(spec, comm_, path_ / "again", &continued, manifests);
  if (comm_.rank() == 0) {
    EXPECT_EQ(continued.values["train/loss"].begin()->first, 3);
  }
  try {
    Train(spec, comm_, path_ / "again", &link, {manifests[0]});
    FAIL() << "nothing is left";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
    EXPECT_THAT(error.what(), testing::HasSubstr(damaged));
  }
  // Of another set of identities.
  CheckpointManifest other = manifests[1];
  other.set_num_identities(kIdentities + 1);
  EXPECT_THROW(Train(spec, comm_, path_ / "again", &link, {other}), Error);
}

}  // namespace
}  // namespace fr
