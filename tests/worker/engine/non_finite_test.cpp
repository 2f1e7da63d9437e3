// Finding where a value that is no number came from: faults are put in, and must be named.

#include <cmath>
#include <limits>
#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "tests/worker/engine/device.h"
#include "worker/backbones/run/training_plan.h"

namespace fr {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// Two residual blocks, dropout, and a last layer.
Graph Network() {
  GraphBuilder b({3, 8, 8});
  int x = b.Conv("stem", b.input(), {.out = 8, .kernel = {3, 3}, .padding = {1, 1}});
  x = b.PRelu("stem.prelu", b.BatchNorm("stem.bn", x));
  for (const std::string name : {"layer1.0", "layer1.1"}) {
    b.BeginBlock();
    int y = b.Conv(name + ".conv1", b.BatchNorm(name + ".bn1", x),
                   {.out = 8, .kernel = {3, 3}, .padding = {1, 1}});
    y = b.PRelu(name + ".prelu", b.BatchNorm(name + ".bn2", y));
    y = b.Conv(name + ".conv2", y, {.out = 8});
    x = b.Add(name + ".add", b.BatchNorm(name + ".bn3", y), x);
  }
  b.BeginBlock();
  x = b.Dropout("dropout", b.Flatten("flatten", x), 0.2);
  x = b.Linear("fc", x, 6, true);
  b.BatchNorm("features", x, /*fixed_weight=*/true);
  return b.Finish();
}

// A step with a fault, and what is said of it.
class Trial {
 public:
  explicit Trial(const TrainingOptions& options = {})
      : graph(Network()), state(graph), plan(graph, state, options) {
    state.Initialise(graph, 3);
    torch::manual_seed(7);
    images = OnDevice(torch::randn({5, 3, 8, 8}));
    gradients = OnDevice(torch::randn({5, 6}));
  }

  void Set(const std::string& name, double value) {
    const torch::NoGradGuard no_grad;
    state.Get(name).fill_(value);
  }

  void Scale(const std::string& name, double factor) {
    const torch::NoGradGuard no_grad;
    state.Get(name).mul_(factor);
  }

  // After the pass that showed the fault, as training has it. Without gradients: forward alone.
  std::string Find(bool backward) {
    plan.Forward(images);
    if (backward) plan.Backward(gradients);
    return plan.FindNonFinite(images, backward ? gradients : at::Tensor())
        .value_or("all is finite");
  }

  Graph graph;
  NetworkState state;
  TrainingPlan plan;
  at::Tensor images;
  at::Tensor gradients;
};

class NonFiniteTest : public testing::Test {
 protected:
  void SetUp() override {
    if (TestCommunicator().rank() != 0) GTEST_SKIP() << "runs on rank 0";
  }
};

TEST_F(NonFiniteTest, FiniteStepsAreFoundToBe) {
  for (const bool recompute : {false, true}) {
    for (const at::ScalarType precision : {at::kFloat, at::kBFloat16}) {
      TrainingOptions options;
      options.recompute = recompute;
      options.precision = precision;
      Trial step(options);
      EXPECT_EQ(step.Find(false), "all is finite");
      EXPECT_EQ(step.Find(true), "all is finite");
    }
  }
}

TEST_F(NonFiniteTest, AnImageIsNamed) {
  for (const float value : {kInfinity, kNaN}) {
    Trial step;
    step.images[2][1][4][4] = value;
    EXPECT_EQ(step.Find(false), "input: image 2");
    EXPECT_EQ(step.Find(true), "input: image 2");
  }
}

TEST_F(NonFiniteTest, AWeightIsNamed) {
  for (const char* name :
       {"stem.weight", "layer1.0.bn2.bias", "layer1.1.prelu.weight", "fc.bias"}) {
    Trial step;
    const torch::NoGradGuard no_grad;
    step.state.Get(name)[1].fill_(kNaN);
    EXPECT_EQ(step.Find(false), std::string("weight ") + name);
  }
}

// Weights that are numbers, but whose products are none.
TEST_F(NonFiniteTest, TheLayerThatOverflowsIsNamed) {
  for (const bool recompute : {false, true}) {
    for (const at::ScalarType precision : {at::kFloat, at::kBFloat16}) {
      TrainingOptions options;
      options.recompute = recompute;
      options.precision = precision;
      {
        Trial step(options);
        step.Set("layer1.1.conv1.weight", 3e38);
        EXPECT_EQ(step.Find(false), "forward: layer1.1.conv1");
      }
      {
        Trial step(options);
        step.Set("layer1.0.bn2.weight", 3e38);
        EXPECT_EQ(step.Find(false), "forward: layer1.0.prelu")
            << "of a batch norm and its activation";
      }
      {
        Trial step(options);
        step.Set("layer1.0.bn3.weight", 3e38);
        EXPECT_EQ(step.Find(false), "forward: layer1.0.add") << "of a batch norm and its sum";
      }
    }
  }
}

TEST_F(NonFiniteTest, TheGradientThatOverflowsIsNamed) {
  for (const bool recompute : {false, true}) {
    for (const at::ScalarType precision : {at::kFloat, at::kBFloat16}) {
      TrainingOptions options;
      options.recompute = recompute;
      options.precision = precision;
      {
        Trial step(options);
        step.gradients[3][2] = kInfinity;
        EXPECT_EQ(step.Find(true), "backward: gradient of features") << "the head gave it";
      }
      {
        // A large input of a layer with small weights: the weights' gradient is too large.
        Trial step(options);
        step.Set("layer1.1.bn3.weight", 1e4);
        step.Scale("fc.weight", 1e-4);
        step.gradients.mul_(1e36);
        EXPECT_EQ(step.Find(true), "backward: gradient of fc.weight");
      }
      {
        // A small input of a layer with large weights: the input's gradient is too large.
        Trial step(options);
        for (const char* name : {"stem.bn", "layer1.0.bn3", "layer1.1.bn3"}) {
          step.Set(std::string(name) + ".weight", 1e-30);
        }
        step.Scale("fc.weight", 1e30);
        step.gradients.mul_(1e14);
        EXPECT_EQ(step.Find(true), "backward: gradient of dropout");
      }
    }
  }
}

// The search leaves nothing behind: gradients so far, statistics, the random draws of the step, and
// the next step are what they would have been.
TEST_F(NonFiniteTest, TheSearchChangesNothing) {
  for (const bool recompute : {false, true}) {
    TrainingOptions options;
    options.recompute = recompute;
    Trial searched(options);
    Trial plain(options);
    for (Trial* step : {&searched, &plain}) {
      torch::manual_seed(11);
      step->plan.Forward(step->images);
      step->plan.Backward(step->gradients);
    }
    EXPECT_FALSE(searched.plan.FindNonFinite(searched.images, searched.gradients).has_value());
    EXPECT_TRUE(at::equal(searched.state.trained().gradients(), plain.state.trained().gradients()));
    const NamedTensors statistics = searched.state.Statistics();
    for (std::size_t i = 0; i < statistics.size(); ++i) {
      EXPECT_TRUE(at::equal(statistics[i].second, plain.state.Statistics()[i].second))
          << statistics[i].first;
    }
    for (Trial* step : {&searched, &plain}) {
      torch::manual_seed(12);
      step->plan.Forward(step->images);
      step->plan.Backward(step->gradients);
    }
    EXPECT_TRUE(at::equal(searched.state.trained().gradients(), plain.state.trained().gradients()));
  }
}

// Also images of another batch, as with train.accumulate.
TEST_F(NonFiniteTest, AnyImagesMayBeSearched) {
  Trial step;
  step.plan.Forward(step.images);
  step.plan.Backward(step.gradients);
  at::Tensor others = OnDevice(torch::randn({3, 3, 8, 8}));
  EXPECT_FALSE(step.plan.FindNonFinite(others, OnDevice(torch::randn({3, 6}))).has_value());
  others[1][0][0][0] = kNaN;
  EXPECT_EQ(step.plan.FindNonFinite(others, at::Tensor()), "input: image 1");
}

// A step that is left out must not have spoiled the statistics that validation uses: neither by
// what is no number nor by what has no square in float32.
TEST_F(NonFiniteTest, RunningStatisticsStayNumbers) {
  Trial nan;
  nan.images[2][1][4][4] = kNaN;
  Trial large;
  large.Set("layer1.0.conv1.weight", 1e25);
  for (Trial* step : {&nan, &large}) {
    step->plan.Forward(step->images);
    for (const auto& [name, tensor] : step->state.Statistics()) {
      EXPECT_TRUE(tensor.isfinite().all().item<bool>()) << name;
    }
  }
}

// With batch norm over all ranks one rank's fault reaches all; the rank that has it names it, and
// nobody waits for somebody who has found something.
TEST(NonFiniteRanks, EveryRankAnswers) {
  TestCommunicator comm;
  TrainingOptions options;
  options.batch_norm_comm = &comm;
  for (const bool backward : {false, true}) {
    Trial step(options);
    if (comm.rank() == comm.world_size() - 1) step.images[0][0][0][0] = kNaN;
    const std::string found = step.Find(backward);
    EXPECT_EQ(found,
              comm.rank() == comm.world_size() - 1 ? "input: image 0" : "forward: stem.prelu");
  }
}

}  // namespace
}  // namespace fr
