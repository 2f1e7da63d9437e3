// Training passes as graphs give what the passes themselves give, whatever a GPU makes of graphs.

#include "worker/backbones/run/recorded_passes.h"

#include <memory>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "common/networks/graph.h"
#include "emulated_gpu.h"
#include "worker/comm/mpi_communicator.h"

namespace fr {
namespace {

Graph SmallNetwork(double dropout) {
  GraphBuilder b({3, 8, 8});
  int x = b.Conv("stem", b.input(), {.out = 8, .kernel = {3, 3}, .padding = {1, 1}});
  x = b.PRelu("prelu", b.BatchNorm("bn", x));
  int y = b.Conv("conv", b.BatchNorm("bn1", x), {.out = 8, .kernel = {3, 3}, .padding = {1, 1}});
  x = b.Add("add", b.BatchNorm("bn2", y), x);
  x = b.Dropout("dropout", b.Flatten("flatten", x), dropout);
  b.BatchNorm("features", b.Linear("fc", x, 6, true), /*fixed_weight=*/true);
  return b.Finish();
}

// What a GPU may do with graphs instead of what it should.
class OddGpu : public EmulatedGpu {
 public:
  enum class Graphs { kRight, kNone, kDoNothing, kDoHalf };
  explicit OddGpu(Graphs graphs) : graphs_(graphs) {}

  std::unique_ptr<GpuGraph> Record(const std::function<void()>& work) override {
    const int number = recorded_++;
    if (graphs_ == Graphs::kNone) return nullptr;
    auto graph = EmulatedGpu::Record(work);
    const bool lies = graphs_ == Graphs::kDoNothing || (graphs_ == Graphs::kDoHalf && number > 0);
    if (lies) return std::make_unique<Idle>();
    return graph;
  }
  int recorded() const { return recorded_; }

 private:
  struct Idle : GpuGraph {
    void Replay() override {}
  };
  Graphs graphs_;
  int recorded_ = 0;
};

class RecordedPassesTest : public testing::Test {
 protected:
  void SetUp() override {
    if (MpiCommunicator().rank() != 0) GTEST_SKIP() << "runs on rank 0";
  }
  void TearDown() override { UseGpu(nullptr); }

  struct Result {
    std::vector<at::Tensor> embeddings;
    at::Tensor gradients;  // summed over all steps
    std::vector<at::Tensor> statistics;
    std::vector<std::pair<std::int64_t, std::int64_t>> announced;  // in the last step
  };

  // Eight steps of five images; the sixth has four.
  Result Run(Gpu& gpu, bool as_graphs, double dropout = 0, std::int64_t segment_elements = 200) {
    UseGpu(&gpu);
    const Graph graph = SmallNetwork(dropout);
    NetworkState state(graph);
    state.Initialise(graph, 3);
    TrainingPlan plan(graph, state, {});
    RecordedPasses passes(plan, state, gpu, segment_elements);
    torch::manual_seed(7);
    Result result;
    for (int step = 0; step < 8; ++step) {
      const std::int64_t images = step == 5 ? 4 : 5;
      const at::Tensor x = torch::randn({images, 3, 8, 8});
      const at::Tensor gradient = torch::randn({images, 6});
      const Draws draws{static_cast<std::uint64_t>(step), 0};
      result.announced.clear();
      const GradientsReady ready = [&](std::int64_t begin, std::int64_t end) {
        result.announced.emplace_back(begin, end);
      };
      result.embeddings.push_back(as_graphs ? passes.Forward(x, draws) : plan.Forward(x, draws));
      as_graphs ? passes.Backward(gradient, ready) : plan.Backward(gradient, ready);
    }
    result.gradients = state.trained().gradients().clone();
    for (const auto& named : state.Statistics()) result.statistics.push_back(named.second.clone());
    return result;
  }

  static void ExpectSame(const Result& a, const Result& b) {
    for (std::size_t i = 0; i < a.embeddings.size(); ++i) {
      EXPECT_TRUE(a.embeddings[i].equal(b.embeddings[i])) << "step " << i;
    }
    EXPECT_TRUE(a.gradients.equal(b.gradients));
    for (std::size_t i = 0; i < a.statistics.size(); ++i) {
      EXPECT_TRUE(a.statistics[i].equal(b.statistics[i])) << i;
    }
    EXPECT_EQ(a.announced, b.announced);
  }
};

TEST_F(RecordedPassesTest, GraphsGiveWhatThePassesGive) {
  OddGpu gpu(OddGpu::Graphs::kRight);
  const Result recorded = Run(gpu, true);
  EXPECT_GT(gpu.recorded(), 3);  // forward, and the backward pass in parts
  ExpectSame(recorded, Run(gpu, false));
}

TEST_F(RecordedPassesTest, ASegmentIsAtLeastAsLongAsAsked) {
  OddGpu gpu(OddGpu::Graphs::kRight);
  const Result recorded = Run(gpu, true, 0, /*segment_elements=*/1'000'000);
  EXPECT_EQ(gpu.recorded(), 2);
  ExpectSame(recorded, Run(gpu, false));
}

TEST_F(RecordedPassesTest, WithoutGraphsThePassesRun) {
  OddGpu gpu(OddGpu::Graphs::kNone);
  const Result recorded = Run(gpu, true);
  EXPECT_EQ(gpu.recorded(), 1);  // it is not tried again
  ExpectSame(recorded, Run(gpu, false));
}

TEST_F(RecordedPassesTest, GraphsThatGiveSomethingElseAreNotUsed) {
  for (const auto graphs : {OddGpu::Graphs::kDoNothing, OddGpu::Graphs::kDoHalf}) {
    OddGpu gpu(graphs);
    ExpectSame(Run(gpu, true), Run(gpu, false));
  }
}

TEST_F(RecordedPassesTest, WhatIsDrawnAnewInEveryStepIsNotRecorded) {
  OddGpu gpu(OddGpu::Graphs::kRight);
  const Result recorded = Run(gpu, true, /*dropout=*/0.3);
  EXPECT_EQ(gpu.recorded(), 0);
  ExpectSame(recorded, Run(gpu, false, 0.3));
}

}  // namespace
}  // namespace fr
