// A GPU worker's memory, against sums by hand. No GPU was ever asked whether they are right.

#include "common/plan/gpu_memory.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/networks/costs.h"
#include "common/networks/network.h"
#include "common/plan/cuda_pool_model.h"
#include "common/plan/gpu_sizes.h"
#include "common/plan/job_plan.h"
#include "common/plan/training_memory.h"
#include "tests/common/plan/small_network.h"

namespace fr {
namespace {

constexpr std::int64_t kMiB = 1 << 20;

std::int64_t BytesOf(const std::vector<MemoryItem>& items, const std::string& key) {
  for (const MemoryItem& item : items) {
    if (item.key == key) return item.bytes;
  }
  return 0;
}

std::vector<std::string> Keys(const std::vector<MemoryItem>& items) {
  std::vector<std::string> keys;
  for (const MemoryItem& item : items) keys.push_back(item.key);
  return keys;
}

using KeyList = std::vector<std::string>;

JobSpec SmallJob() {
  JobSpec spec;
  spec.mutable_resources()->set_device(Resources::gpu);
  spec.mutable_resources()->set_workers(2);
  spec.mutable_model()->set_embedding_size(2);
  spec.mutable_model()->set_precision(Precision::bf16);
  spec.mutable_loss()->set_precision(Precision::bf16);
  return spec;
}

// Of two workers with ten images each; the larger shard has 100 identities.
constexpr WorkerShare kSmallShare = {
    .images = 10, .images_at_once = 10, .total_batch = 20, .identities = 100};

TEST(GpuMemory, IsTheSumByHandOfATinyNetworkAndHead) {
  const auto items = PlanGpuMemory(SmallJob(), SmallNetwork(), kSmallShare);
  // Trained: conv 4 x 27, norm 2 x 4, slopes 4, linear 256 x 2 + 2: 634 float32 in one tensor of
  // 2,536 bytes, rounded to 512. Running mean, variance and counter: three of 512 bytes.
  constexpr std::int64_t kTrained = 2560;
  EXPECT_EQ(BytesOf(items, "weights"), kTrained + 3 * 512);
  EXPECT_EQ(BytesOf(items, "gradients"), kTrained);
  EXPECT_EQ(BytesOf(items, "optimizer"), kTrained);  // momentum
  // The linear layer is behind the flattening: float32. All else of a step fits into one segment.
  constexpr std::int64_t kConvCopy = 4 * 27 * 2;
  EXPECT_EQ(BytesOf(items, "weight_copies"), kConvCopy);
  EXPECT_EQ(BytesOf(items, "activations"), 2 * kMiB - kConvCopy);
  // 8 x 4 float32, 3 x 4 float64, one float64; 10 x 64 rows in two parts of 3 x 4 float32: each
  // less than 512 bytes.
  EXPECT_EQ(BytesOf(items, "batch_norms"), 4 * 512);
  // Bytes twice, float32, bfloat16: 2 + 4 + 2 a value.
  EXPECT_EQ(BytesOf(items, "images"), 8 * (10 * 3 * 112 * 112));

  // Two columns become 32, twenty samples 32, a hundred rows one block of 128.
  EXPECT_EQ(BytesOf(items, "head_weights"), 100 * 32 * 4);
  EXPECT_EQ(BytesOf(items, "head_state"), 100 * 32 * 4);
  constexpr std::int64_t kTile = 128 * (32 + 32) * 2  // rows and coefficients, bfloat16
                                 + 5 * 128 * 4        // by row: three, and two by block of samples
                                 + 2 * 32 * 4         // by sample: maxima and sums
                                 + 32 * 32 * 2        // embeddings, bfloat16
                                 + 5 * 32 * 32 * 4;   // gradients: 128 / 32 parts and their sum
  EXPECT_EQ(BytesOf(items, "head_workspace"), kTile + 32 * (4 * 8 + 3 * 4 + 24));
  EXPECT_EQ(BytesOf(items, "gathered"), 20 * (3 * 2 * 4 + 12) + 10 * (6 * 2 * 4 + 12));
  EXPECT_EQ(BytesOf(items, "nccl"), kNcclBytes);
  EXPECT_EQ(BytesOf(items, "libraries"), kGpuLibraryBytes);
  EXPECT_EQ(BytesOf(items, "context"), kGpuContextBytes);
  EXPECT_EQ(SumOf(items), 2 * kMiB + 4 * kTrained - kTrained + 3 * 512 + 4 * 512 + 8 * 376'320 +
                              2 * 12'800 + kTile + 2'176 + 1'320 + kNcclBytes + kGpuLibraryBytes +
                              kGpuContextBytes);
}

JobSpec LargeJob() {
  JobSpec spec;
  spec.mutable_resources()->set_device(Resources::gpu);
  spec.mutable_data()->set_batch_size(128);
  spec.mutable_model()->set_network(Network::r50);
  spec.mutable_model()->set_precision(Precision::bf16);
  spec.mutable_loss()->set_precision(Precision::bf16);
  return spec;
}

// Values that r50's backward pass reads, of one image. B: a map [64, 56, 56]; each stage's maps are
// half of those of the stage before, where its first block reads and widens them.
//   stem: the norm's input [64, 112, 112], 4 B
//   a block: its input, and what its two convolutions read and write: 5 maps
//   a stage's first block, as it halves the sides: four maps of the sides before, two after, of
//   which one is the shortcut's
//     64 channels:  4 x 4 B + 2 B,                     and  2 blocks of 5 x B
//     128:          2 x B + 2 x 2 B + 2 x B / 2,       and  3 of 5 x B / 2
//     256:          half of that,                      and 13 of 5 x B / 4
//     512:          a quarter,                         and  2 of 5 x B / 8
//   tail: the last norm's input and output, B / 8 each, and its values in float32, B / 4; 512
//   float32 values before the embedding's norm
constexpr std::int64_t kB = 64 * 56 * 56;
constexpr std::int64_t kR50Values = 4 * kB + (16 + 2 + 10) * kB + 7 * kB + 15 * kB / 2 +
                                    7 * kB / 2 + 65 * kB / 4 + 7 * kB / 4 + 10 * kB / 8 +
                                    2 * kB / 8 + kB / 4 + 2 * 512;

TEST(GpuMemory, OfR50IsWhatItsBackwardPassReads) {
  const JobSpec spec = LargeJob();
  const Graph graph = MakeNetwork(OptionsOf(spec.model()));
  CudaPoolModel pool;
  const TrainingMemory memory = TrainingMemoryOf(
      graph, {.images = 128, .precision = Precision::bf16, .caller_has_images = true}, pool);
  EXPECT_EQ(memory.kept - memory.weight_copies, 128 * kR50Values * 2);
  const auto items = PlanGpuMemory(spec, graph, ShareOfWorker(spec, {1'000'000, 10'000'000}, 1));
  const auto activations = static_cast<double>(BytesOf(items, "activations"));
  // And some gradients: the first stage's come last, are the largest, and find no free segment that
  // is large enough, as what is free by then held smaller maps.
  constexpr double kLargest = 128.0 * 4 * kB * 2;
  EXPECT_GT(activations, 128.0 * kR50Values * 2 + 2 * kLargest);
  EXPECT_LT(activations, 128.0 * kR50Values * 2 + 4 * kLargest);
}

TEST(GpuMemory, IsTheSumByHandOfR50WithAMillionIdentities) {
  const JobSpec spec = LargeJob();
  const JobPlan plan = PlanJob(spec, {1'000'000, 10'000'000}, {});
  const auto& items = plan.gpu_memory;
  // 43.6 million parameters in one tensor: float32, whole steps of 2 MiB.
  const Graph graph = MakeNetwork(OptionsOf(spec.model()));
  const std::int64_t parameters = CostsOf(graph).trained_parameters;
  EXPECT_NEAR(static_cast<double>(parameters), 43.6e6, 0.1e6);
  const std::int64_t trained = (parameters * 4 + 2 * kMiB - 1) / (2 * kMiB) * (2 * kMiB);
  EXPECT_EQ(BytesOf(items, "gradients"), trained);
  EXPECT_EQ(BytesOf(items, "optimizer"), trained);
  // All weights but those of the linear layer, 25,088 x 512, and of norms and slopes.
  EXPECT_NEAR(static_cast<double>(BytesOf(items, "weight_copies")),
              2 * static_cast<double>(parameters - 25'088 * 512), 0.1e6);
  // 1,000,000 rows of 512 float32 are 976.6 x 2 MiB; as much momentum.
  EXPECT_EQ(BytesOf(items, "head_weights"), 977 * 2 * kMiB);
  EXPECT_EQ(BytesOf(items, "head_state"), 977 * 2 * kMiB);
  EXPECT_EQ(BytesOf(items, "head_gradients"), 0);
  // 32 MiB / ((512 + 128) x 2 bytes) are 26,214 rows: 204 blocks of 128. 132 multiprocessors,
  // twice, over four blocks of 128 columns: 66 parts of the embeddings' gradients.
  constexpr std::int64_t kRows = 204 * 128;
  constexpr std::int64_t kTile = kRows * (512 + 128) * 2 + 5 * kRows * 4 + 2 * 204 * 128 * 4 +
                                 128 * 512 * 2 + (66 + 1) * 128 * 512 * 4;
  EXPECT_EQ(BytesOf(items, "head_workspace"), kTile + 128 * 68);
  EXPECT_EQ(BytesOf(items, "gathered"), 128 * (9 * 2048 + 2 * 12));
  // 4.8 million values: 4.6 MiB twice, 18.4 MiB as 20, 9.2 MiB.
  constexpr std::int64_t kImages = 128 * 3 * 112 * 112;
  EXPECT_EQ(BytesOf(items, "images"), 4 * kImages + 20 * kMiB);
  EXPECT_EQ(BytesOf(items, "nccl"), 0);  // one worker
  // 0.16 GiB three times for the backbone, 0.06 of copies, 3.4 of values and 0.4 to 0.8 of
  // gradients, 3.8 of the head, 0.1 of its work and the images, 0.6 of allowances.
  const double gib = static_cast<double>(SumOf(items)) / (1024.0 * kMiB);
  EXPECT_GT(gib, 8.8);
  EXPECT_LT(gib, 9.3);
  // None of it is on the node, but for a checkpoint's copy.
  EXPECT_EQ(BytesOf(plan.memory, "activations"), 0);
  EXPECT_EQ(Keys(plan.memory), KeyList({"head_start", "loader", "checkpoint", "program", "cuda"}));
}

TEST(GpuMemory, GrowsWithBatchAndIdentities) {
  JobSpec spec = LargeJob();
  std::int64_t before = 0;
  for (const int batch : {8, 16, 32, 64, 128, 256}) {
    spec.mutable_data()->set_batch_size(batch);
    const std::int64_t sum = SumOf(PlanJob(spec, {100'000, 10'000'000}, {}).gpu_memory);
    EXPECT_GT(sum, before) << batch;
    before = sum;
  }
  before = 0;
  for (const std::int64_t identities : {1'000, 10'000, 100'000, 1'000'000, 10'000'000}) {
    const std::int64_t sum = SumOf(PlanJob(spec, {identities, 20'000'000}, {}).gpu_memory);
    EXPECT_GT(sum, before) << identities;
    before = sum;
  }
}

TEST(GpuMemory, PrecisionRecomputeAndWorkersTakeLess) {
  JobSpec spec = LargeJob();
  const DataFacts facts{1'000'000, 10'000'000};
  const auto narrow = PlanJob(spec, facts, {}).gpu_memory;
  spec.mutable_model()->set_recompute(true);
  const auto again = PlanJob(spec, facts, {}).gpu_memory;
  EXPECT_LT(BytesOf(again, "activations"), BytesOf(narrow, "activations") / 2);
  EXPECT_LT(BytesOf(again, "weight_copies"), BytesOf(narrow, "weight_copies") / 2);
  spec = LargeJob();
  spec.mutable_model()->set_precision(Precision::fp32);
  spec.mutable_loss()->set_precision(Precision::fp32);
  const auto wide = PlanJob(spec, facts, {}).gpu_memory;
  EXPECT_GT(BytesOf(wide, "activations"), BytesOf(narrow, "activations"));
  EXPECT_EQ(BytesOf(wide, "weight_copies"), 0);
  // Three planes of a third of the rows: the tile stays as large.
  EXPECT_NEAR(static_cast<double>(BytesOf(wide, "head_workspace")),
              static_cast<double>(BytesOf(narrow, "head_workspace")), 1.0 * kMiB);
  spec = LargeJob();
  spec.mutable_resources()->set_workers(4);
  const auto shared = PlanJob(spec, facts, {}).gpu_memory;
  EXPECT_EQ(BytesOf(shared, "head_weights"), CudaTensorBytes(250'000LL * 512 * 4));
  EXPECT_EQ(BytesOf(shared, "nccl"), kNcclBytes);
}

// Programs read the keys; their order is that of the text.
TEST(GpuMemory, ItemsAreTheSameForEveryJob) {
  JobSpec spec = LargeJob();
  spec.mutable_data()->set_batch_size(2);
  spec.mutable_data()->add_validation("lfw");
  spec.mutable_resources()->set_workers(2);
  spec.mutable_train()->set_ema_decay(0.9998);
  spec.mutable_train()->set_accumulate(2);
  spec.mutable_communication()->set_gradient_precision(Precision::bf16);
  EXPECT_EQ(Keys(PlanJob(spec, {1'000, 10'000}, {}).gpu_memory),
            KeyList({"weights", "gradients", "optimizer", "moving_average", "weight_copies",
                     "activations", "batch_norms", "validation", "images", "head_weights",
                     "head_state", "head_gradients", "head_workspace", "gathered", "messages",
                     "nccl", "libraries", "context"}));
  // Unknown identities: no head.
  EXPECT_EQ(Keys(PlanJob(LargeJob(), {}, {}).gpu_memory),
            KeyList({"weights", "gradients", "optimizer", "weight_copies", "activations",
                     "batch_norms", "images", "libraries", "context"}));
  spec = LargeJob();
  spec.mutable_loss()->set_type(LossType::triplet);
  EXPECT_EQ(
      Keys(PlanJob(spec, {1'000, 10'000}, {}).gpu_memory),
      KeyList({"weights", "gradients", "optimizer", "weight_copies", "activations", "batch_norms",
               "images", "head_workspace", "gathered", "libraries", "context"}));
}

TEST(GpuMemory, FollowsTheHeadsOptions) {
  JobSpec spec = SmallJob();
  const Graph graph = SmallNetwork();
  const auto plain = PlanGpuMemory(spec, graph, kSmallShare);
  spec.mutable_optimizer()->set_type(OptimizerType::adamw);
  EXPECT_EQ(BytesOf(PlanGpuMemory(spec, graph, kSmallShare), "head_state"),
            2 * BytesOf(plain, "head_state"));
  // LARS needs all gradients; each identity has a byte that says whether it has one.
  spec.mutable_optimizer()->set_type(OptimizerType::lars);
  EXPECT_EQ(BytesOf(PlanGpuMemory(spec, graph, kSmallShare), "head_gradients"), 100 * 32 * 4 + 100);
  spec = SmallJob();
  spec.mutable_loss()->set_sub_centers(3);
  EXPECT_EQ(BytesOf(PlanGpuMemory(spec, graph, kSmallShare), "head_weights"),
            3 * BytesOf(plain, "head_weights"));
  spec = SmallJob();
  spec.mutable_loss()->set_mass_tolerance(1e-3);
  EXPECT_EQ(BytesOf(PlanGpuMemory(spec, graph, kSmallShare), "head_workspace"),
            BytesOf(plain, "head_workspace") + 100 * (4 + 18) + 97 * 32 * 24 + 32 * 4);
}

TEST(GpuMemory, SumsInRankOrderNeedRoomForTheirParts) {
  JobSpec spec = LargeJob();
  spec.mutable_resources()->set_workers(4);
  const DataFacts facts{1'000, 1'000'000};
  EXPECT_EQ(BytesOf(PlanJob(spec, facts, {}).gpu_memory, "messages"), 0);
  constexpr std::int64_t kBucket = 25 * kMiB / 4;  // float32 values
  spec.mutable_train()->set_deterministic(true);
  EXPECT_EQ(BytesOf(PlanJob(spec, facts, {}).gpu_memory, "messages"), kBucket * 4);
  spec.mutable_communication()->set_gradient_precision(Precision::bf16);
  EXPECT_EQ(BytesOf(PlanJob(spec, facts, {}).gpu_memory, "messages"), kBucket * 4 + kBucket);
}

TEST(GpuMemory, IsPlannedOnlyWhereTheJobSaysGpu) {
  JobSpec spec = LargeJob();
  for (const auto device : {Resources::auto_, Resources::cpu}) {
    spec.mutable_resources()->set_device(device);
    const JobPlan plan = PlanJob(spec, {1'000, 1'000'000}, {});
    EXPECT_TRUE(plan.gpu_memory.empty());
    EXPECT_GT(BytesOf(plan.memory, "activations"), 0);
  }
}

// Tiles have whole blocks of whole identities, one at least, and no more than there are rows.
TEST(GpuHeadSizes, AreThoseOfWholeBlocks) {
  const GpuHeadSizes one = GpuHeadSizesOf(10, 512, 64, 1, true, /*tile_bytes=*/1);
  EXPECT_EQ(one.tile_rows, 128);
  EXPECT_EQ(one.row_blocks, 1);
  const GpuHeadSizes centers = GpuHeadSizesOf(3'000'000, 512, 1024, 3, false);
  EXPECT_EQ(centers.planes, 3);
  EXPECT_EQ(centers.tile_rows % 126, 0);
  EXPECT_LE(centers.tile_rows * (512 + 1024) * 2 * 3, kGpuHeadTileBytes);
  EXPECT_EQ(centers.sample_blocks, 8);
  EXPECT_EQ(centers.Splits(132), 264 / (8 * 4));
}

}  // namespace
}  // namespace fr
