// What a training step keeps in memory: the heap's model by hand, and networks small enough to
// count.

#include <gtest/gtest.h>

#include "common/networks/network.h"
#include "common/plan/heap_model.h"
#include "common/plan/job_plan.h"
#include "common/plan/training_memory.h"
#include "tests/common/plan/small_network.h"

namespace fr {
namespace {

constexpr std::int64_t kMiB = 1 << 20;

TEST(HeapModel, GivesLargeBlocksBackAtOnce) {
  HeapModel heap;
  BufferPtr block = heap.New(64 * kMiB);
  EXPECT_EQ(heap.live(), 64 * kMiB);
  EXPECT_EQ(heap.resident(), 64 * kMiB);
  block.reset();
  EXPECT_EQ(heap.live(), 0);
  EXPECT_EQ(heap.resident(), 0);
  EXPECT_EQ(heap.peak_resident(), 64 * kMiB);
}

TEST(HeapModel, SharedBuffersAreFreedByTheLastHolder) {
  HeapModel heap;
  BufferPtr first = heap.New(kMiB);
  BufferPtr second = first;
  first.reset();
  EXPECT_EQ(heap.live(), kMiB);
  second.reset();
  EXPECT_EQ(heap.live(), 0);
}

// Once a block of 8 MiB was freed, blocks below that size come from the heap; what is freed between
// two others stays, and is used again.
TEST(HeapModel, KeepsGapsAndFillsThem) {
  HeapModel heap;
  heap.New(8 * kMiB).reset();
  BufferPtr below = heap.New(2 * kMiB);
  BufferPtr middle = heap.New(4 * kMiB);
  const BufferPtr above = heap.New(2 * kMiB);
  const std::int64_t all = heap.resident();
  middle.reset();
  EXPECT_EQ(heap.live(), 4 * kMiB);
  EXPECT_EQ(heap.resident(), all);
  const BufferPtr small = heap.New(3 * kMiB);
  EXPECT_EQ(heap.resident(), all);
}

TEST(HeapModel, TheHeapsEndGoesBackWhenMuchOfItIsFree) {
  HeapModel heap;
  heap.New(kMiB).reset();  // the heap's end goes back from 2 MiB on
  BufferPtr block = heap.New(kMiB - 4096);
  BufferPtr second = heap.New(kMiB - 4096);
  BufferPtr third = heap.New(kMiB - 4096);
  EXPECT_GT(heap.resident(), 2 * kMiB);
  block.reset();
  second.reset();
  EXPECT_GT(heap.resident(), 2 * kMiB);
  third.reset();
  EXPECT_EQ(heap.resident(), 0);
}

TEST(TrainingMemory, KeepsWhatTheBackwardPassReads) {
  constexpr std::int64_t kImages = 10;
  const TrainingMemory memory = TrainingMemoryOf(SmallNetwork(), {.images = kImages});
  // The convolution keeps the images, the norm its input (its own value never comes to be, the
  // activation's is read by Flatten alone), Flatten what it read and what it wrote, which is the
  // linear layer's input.
  const std::int64_t images = kImages * 3 * 64 * 4;
  const std::int64_t map = kImages * 4 * 64 * 4;
  EXPECT_EQ(memory.kept, images + map + map + map);
  EXPECT_GE(memory.resident, memory.kept + map);  // and a gradient at least
}

TEST(TrainingMemory, HalvesMapsInBf16ButNotTheirFlattenedValues) {
  constexpr std::int64_t kImages = 10;
  const TrainingMemory memory =
      TrainingMemoryOf(SmallNetwork(), {.images = kImages, .precision = Precision::bf16});
  const std::int64_t images = kImages * 3 * 64 * 2;
  const std::int64_t map = kImages * 4 * 64 * 2;
  const std::int64_t conv_weight = 4 * 3 * 9 * 2;  // converted once for both passes
  EXPECT_EQ(memory.kept, images + map + map + 2 * map + conv_weight);
}

class NetworkMemory : public testing::TestWithParam<Network> {
 protected:
  static TrainingMemory Of(std::int64_t images, Precision precision, bool recompute) {
    NetworkOptions options;
    options.network = GetParam();
    return TrainingMemoryOf(MakeNetwork(options),
                            {.images = images, .precision = precision, .recompute = recompute});
  }
};

TEST_P(NetworkMemory, GrowsWithTheBatchAndShrinksWithPrecisionAndRecompute) {
  const TrainingMemory one = Of(1, Precision::fp32, false);
  const TrainingMemory many = Of(16, Precision::fp32, false);
  EXPECT_NEAR(static_cast<double>(many.kept), 16.0 * static_cast<double>(one.kept),
              0.01 * static_cast<double>(many.kept));
  EXPECT_GE(many.resident, many.kept);
  const TrainingMemory narrow = Of(16, Precision::bf16, false);
  EXPECT_LT(narrow.kept, 0.85 * static_cast<double>(many.kept));
  const TrainingMemory again = Of(16, Precision::fp32, true);
  EXPECT_LT(again.kept, 0.5 * static_cast<double>(many.kept));
  EXPECT_LT(again.resident, many.resident);
}

INSTANTIATE_TEST_SUITE_P(Families, NetworkMemory,
                         testing::Values(Network::r18, Network::r100, Network::mbf, Network::m1,
                                         Network::inception_resnet_v2, Network::densenet121,
                                         Network::dpn68, Network::vit_t),
                         [](const auto& network) { return Network_Name(network.param); });

TEST(InferenceMemory, HasACopyOfTheWeightsAndGrowsWithTheBatch) {
  NetworkOptions options;
  options.network = Network::mbf;
  const Graph graph = MakeNetwork(options);
  const std::int64_t one = InferenceMemoryOf(graph, 1, Precision::fp32);
  const std::int64_t many = InferenceMemoryOf(graph, 64, Precision::fp32);
  EXPECT_GT(one, std::int64_t{4} * 2'000'000);  // mbf has 2.06 million parameters
  EXPECT_GT(many, one);
  EXPECT_LT(InferenceMemoryOf(graph, 64, Precision::bf16), many);
  EXPECT_LT(many, TrainingMemoryOf(graph, {.images = 64}).kept);
}

std::int64_t BytesOf(const JobPlan& plan, const std::string& key) {
  for (const MemoryItem& item : plan.memory) {
    if (item.key == key) return item.bytes;
  }
  return 0;
}

JobSpec SmallJob() {
  JobSpec spec;
  spec.mutable_resources()->set_workers(4);
  spec.mutable_data()->set_batch_size(8);
  spec.mutable_model()->set_network(Network::mbf);
  return spec;
}

TEST(MemoryPlan, FollowsTheOptimizersState) {
  const DataFacts facts{85'742, 1'000'000};
  JobSpec spec = SmallJob();
  const JobPlan sgd = PlanJob(spec, facts, {});
  const std::int64_t weights = BytesOf(sgd, "gradients");
  EXPECT_EQ(BytesOf(sgd, "optimizer"), weights);
  EXPECT_EQ(BytesOf(sgd, "moving_average"), 0);
  // ceil(85,742 / 4) rows of 512 values.
  EXPECT_EQ(BytesOf(sgd, "head_weights"), std::int64_t{21'436} * 512 * 4);
  spec.mutable_optimizer()->set_type(OptimizerType::adamw);
  spec.mutable_train()->set_ema_decay(0.9998);
  const JobPlan adamw = PlanJob(spec, facts, {});
  EXPECT_EQ(BytesOf(adamw, "optimizer"), 2 * weights);
  EXPECT_EQ(BytesOf(adamw, "moving_average"), weights);
  EXPECT_GT(BytesOf(adamw, "head_state"), 2 * BytesOf(adamw, "head_weights"));
  EXPECT_GT(BytesOf(adamw, "checkpoint"), BytesOf(sgd, "checkpoint"));
}

TEST(MemoryPlan, AccumulationTradesActivationsForHeadGradients) {
  const DataFacts facts{85'742, 1'000'000};
  JobSpec spec = SmallJob();
  spec.mutable_data()->set_batch_size(64);
  const JobPlan whole = PlanJob(spec, facts, {});
  spec.mutable_train()->set_accumulate(4);
  const JobPlan parts = PlanJob(spec, facts, {});
  EXPECT_EQ(parts.share.images, 64);
  EXPECT_EQ(parts.share.images_at_once, 16);
  EXPECT_LT(BytesOf(parts, "activations"),
            0.4 * static_cast<double>(BytesOf(whole, "activations")));
  EXPECT_EQ(BytesOf(whole, "head_gradients"), 0);
  EXPECT_EQ(BytesOf(parts, "head_gradients"), BytesOf(parts, "head_weights"));
}

TEST(MemoryPlan, TripletsHaveNoHead) {
  JobSpec spec = SmallJob();
  spec.mutable_loss()->set_type(LossType::triplet);
  const JobPlan plan = PlanJob(spec, {85'742, 1'000'000}, {});
  EXPECT_FALSE(plan.shards.has_value());
  EXPECT_EQ(BytesOf(plan, "head_weights"), 0);
  EXPECT_EQ(plan.work.head, 0);
  EXPECT_EQ(plan.traffic.softmax, 0);
  EXPECT_GT(plan.traffic.embeddings, 0);
}

TEST(MemoryPlan, AsynchronousCheckpointsAreACopyOfAllThatIsWritten) {
  JobSpec spec = SmallJob();
  const JobPlan with = PlanJob(spec, {85'742, 1'000'000}, {});
  spec.mutable_checkpoint()->set_async(false);
  const JobPlan without = PlanJob(spec, {85'742, 1'000'000}, {});
  EXPECT_EQ(BytesOf(without, "checkpoint"), 0);
  EXPECT_EQ(BytesOf(with, "checkpoint"), BytesOf(with, "weights") + BytesOf(with, "optimizer") +
                                             2 * BytesOf(with, "head_weights"));
}

}  // namespace
}  // namespace fr
