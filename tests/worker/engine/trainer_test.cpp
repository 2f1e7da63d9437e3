// The whole training loop, at as many ranks as there are.

#include "worker/train/trainer.h"

#include <cmath>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "common/store/run_store.h"
#include "worker/comm/communicator.h"
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
             RecordingLink* link, const CheckpointManifest* from = nullptr) {
    const auto set = OpenTrainingSet(path_ / set_);
    std::vector<NamedVerificationSet> verification;
    verification.push_back({"synth", VerificationSet::Open(path_ / "set" / "synth.bin")});
    ShardPlan plan =
        PlanShards(set->num_identities(), 1, std::vector<std::int64_t>(comm.world_size(), 1000));
    Trainer trainer(
        {spec, *set, verification, plan, run_dir, comm, comm.rank() == 0 ? link : nullptr});
    if (from != nullptr) {
      trainer.Restore(*from);
    } else {
      trainer.StartFromPretrained();
    }
    trainer.Run();
  }

  void ExpectContinuation(JobSpec spec, int middle);

  TemporaryDirectory directory_;
  Communicator comm_;
  std::filesystem::path path_;
  std::string set_ = "set";  // below path_: what Train trains on
};

// The promise of the whole service: the same job at any number of ranks is the same job. Over 20
// steps the loss of N ranks is that of one within 1e-4.
TEST_F(TrainerTest, AnyNumberOfRanksGivesTheSameLossCurve) {
  if (comm_.world_size() == 1) GTEST_SKIP() << "one rank is what the others are compared with";
  RecordingLink many;
  Train(SmallJob(20), comm_, path_ / "many", &many);
  if (comm_.rank() == 0) {
    Communicator self(Communicator::Self{});
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
  RecordingLink whole;
  Train(spec, comm_, path_ / "whole", &whole);

  // Every rank must know the manifest.
  std::string bytes;
  if (comm_.rank() == 0) {
    ASSERT_EQ(whole.checkpoints.size(), 2U);
    bytes = whole.checkpoints[middle].SerializeAsString();
  }
  CheckpointManifest manifest;
  ASSERT_TRUE(manifest.ParseFromString(comm_.BroadcastBytes(bytes, 0)));
  RecordingLink continued;
  Train(spec, comm_, path_ / "continued", &continued, &manifest);
  if (comm_.rank() != 0) return;
  EXPECT_EQ(continued.values["train/loss"].begin()->first, middle + 1);
  for (const auto& [step, loss] : continued.values["train/loss"]) {
    // The same world: bit by bit, but for the order in which MPI adds.
    EXPECT_NEAR(loss, whole.values["train/loss"][step], 1e-5 * std::abs(loss)) << step;
  }
  Communicator self(Communicator::Self{});
  RecordingLink alone;
  Train(spec, self, path_ / "alone", &alone, &manifest);
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
  RecordingLink many;
  Train(TripletJob(6, TripletSpec::semi_hard), comm_, path_ / "many", &many);
  if (comm_.rank() != 0) return;
  Communicator self(Communicator::Self{});
  RecordingLink one;
  Train(TripletJob(6, TripletSpec::semi_hard), self, path_ / "one", &one);
  ASSERT_EQ(one.values["train/loss"].size(), 6U);
  for (const auto& [step, loss] : one.values["train/loss"]) {
    EXPECT_GT(loss, 0);
    EXPECT_NEAR(many.values["train/loss"][step], loss, 1e-4 * loss) << "step " << step;
  }
}

// Four identities with three images each, the same twelve in every step: what the farthest positive
// and the nearest negative of every anchor cost is learnt away.
TEST_F(TrainerTest, TripletsAreLearnt) {
  if (comm_.rank() == 0) {
    SyntheticSetOptions options;
    options.identities = 4;
    options.images_per_identity = 3;
    options.held_out_identities = 4;
    options.max_pairs = 10;
    WriteSyntheticSet(path_ / "few", options);
  }
  comm_.Barrier();
  set_ = "few";
  JobSpec spec = TripletJob(6, TripletSpec::hard);
  spec.mutable_data()->mutable_augment()->set_flip(0);
  spec.mutable_data()->mutable_augment()->set_color(0);
  spec.mutable_data()->mutable_augment()->set_cut_out(0);
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

// A checkpoint whose bytes changed is refused on every rank, by name, before anything is trained.
TEST_F(TrainerTest, ADamagedCheckpointIsRefused) {
  JobSpec spec = SmallJob(1);
  RecordingLink link;
  Train(spec, comm_, path_ / "run", &link);
  std::string bytes;
  if (comm_.rank() == 0) {
    const CheckpointManifest& manifest = link.checkpoints.at(1);
    bytes = manifest.SerializeAsString();
    const std::filesystem::path file =
        std::filesystem::path(manifest.directory()) / "backbone.safetensors";
    std::string content = ReadFile(file);
    content[content.size() / 2] ^= 1;
    WriteFileAtomically(file, content);
  }
  CheckpointManifest manifest;
  ASSERT_TRUE(manifest.ParseFromString(comm_.BroadcastBytes(bytes, 0)));
  try {
    Train(spec, comm_, path_ / "again", &link, &manifest);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
    EXPECT_NE(std::string(error.what()).find("backbone.safetensors"), std::string::npos);
  }
  // Of another set of identities.
  manifest.set_num_identities(kIdentities + 1);
  EXPECT_THROW(Train(spec, comm_, path_ / "again", &link, &manifest), Error);
}

}  // namespace
}  // namespace fr
