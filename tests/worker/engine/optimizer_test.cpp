// Optimizers, norms and moving averages against PyTorch and against the papers' formulas in double
// precision.

#include "worker/optim/optimizer.h"

#include <cmath>
#include <limits>
#include <map>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "common/base/temporary_directory.h"
#include "tests/python.h"
#include "tests/worker/engine/device.h"
#include "worker/checkpoint/safetensors.h"
#include "worker/optim/lars.h"
#include "worker/optim/weight_average.h"

namespace fr {
namespace {

constexpr int kSteps = 12;

// Of one dimension and more; smaller and larger than what threads share out at a time; and one
// whose weights begin at zero.
const std::vector<std::pair<std::string, std::vector<std::int64_t>>> kParameters = {
    {"conv.weight", {8, 3, 3, 3}}, {"bn.weight", {8}}, {"prelu.weight", {8}},
    {"fc.weight", {150, 331}},     {"fc.bias", {150}}, {"positions", {1, 5, 7}}};

FlatParameters RandomParameters() {
  FlatParameters parameters(kParameters);
  torch::manual_seed(3);
  parameters.values().copy_(torch::randn({parameters.values().numel()}));
  FlatParameters::View(parameters.values(), parameters.entries().back()).zero_();
  return parameters;
}

// Of a step, for all parameters: of no step like another, of no parameter like another.
at::Tensor GradientOf(const FlatParameters& parameters, int step) {
  torch::manual_seed(100 + step);
  at::Tensor gradient = torch::randn({parameters.values().numel()}) * (step + 1);
  for (std::size_t i = 0; i < parameters.entries().size(); ++i) {
    FlatParameters::View(gradient, parameters.entries()[i]).mul_(std::pow(0.1, i));
  }
  return gradient;
}

double Rate(int step) { return 0.02 / (step + 1); }
double Scale(int step) { return step % 3 == 0 ? 0.25 : 1.0; }

void TakeSteps(Optimizer& optimizer, FlatParameters& parameters, int first, int last) {
  for (int step = first; step < last; ++step) {
    parameters.gradients().copy_(GradientOf(parameters, step));
    optimizer.Step(parameters, {Rate(step), Scale(step), step});
    ASSERT_EQ(parameters.gradients().abs().max().item<float>(), 0) << "gradients are used up";
  }
}

double RelativeError(const at::Tensor& actual, const at::Tensor& expected) {
  const at::Tensor reference = expected.cpu().to(torch::kFloat64);
  const at::Tensor difference = actual.cpu().to(torch::kFloat64) - reference;
  return (difference.norm() / (reference.norm() + 1e-30)).item<double>();
}

class OptimizerTest : public testing::Test {
 protected:
  void SetUp() override {
    if (TestCommunicator().rank() != 0) GTEST_SKIP() << "runs on rank 0";
  }
};

// ---- against PyTorch ----

struct TorchCase {
  std::string name;
  std::string call;                          // the optimizer over `groups`
  std::map<std::string, std::string> state;  // our name of a state, and PyTorch's
  OptimizerSpec spec;
};

OptimizerSpec Spec(OptimizerType type, bool nesterov = false, bool decay_all = true,
                   double weight_decay = 0.01) {
  OptimizerSpec spec;
  spec.set_type(type);
  spec.set_nesterov(nesterov);
  spec.set_weight_decay(weight_decay);
  spec.set_decay_norms_and_biases(decay_all);
  return spec;
}

std::vector<TorchCase> TorchCases() {
  const std::map<std::string, std::string> momentum{{"momentum", "momentum_buffer"}};
  const std::map<std::string, std::string> moments{{"first", "exp_avg"}, {"second", "exp_avg_sq"}};
  OptimizerSpec plain = Spec(OptimizerType::sgd, false, true, 0);
  plain.set_momentum(0);
  OptimizerSpec betas = Spec(OptimizerType::adamw, false, false, 0.3);
  betas.set_beta1(0.8);
  betas.set_beta2(0.98);
  betas.set_epsilon(1e-4);
  return {
      {"Sgd", "SGD(groups, lr=1, momentum=0.9)", momentum, Spec(OptimizerType::sgd)},
      {"SgdOfWeightsAlone", "SGD(groups, lr=1, momentum=0.9)", momentum,
       Spec(OptimizerType::sgd, false, false)},
      {"SgdNesterov", "SGD(groups, lr=1, momentum=0.9, nesterov=True)", momentum,
       Spec(OptimizerType::sgd, true)},
      {"SgdWithoutMomentum", "SGD(groups, lr=1)", {}, plain},
      {"AdamW", "AdamW(groups, lr=1)", moments, Spec(OptimizerType::adamw)},
      {"AdamWOfWeightsAlone", "AdamW(groups, lr=1, betas=(0.8, 0.98), eps=1e-4)", moments, betas},
  };
}

// Reads start.safetensors and step-N.safetensors, which hold values and gradients by name; answers
// in end.safetensors. Rates and scales are those of Rate() and Scale().
std::string TorchProgram(const TorchCase& c) {
  return fmt::format(
      R"(
import torch
from safetensors.torch import load_file, save_file
w = {{k: torch.nn.Parameter(v) for k, v in load_file("start.safetensors").items()}}
decay, decay_all = {}, {}
groups = [{{"params": [p for p in w.values() if p.dim() > 1], "weight_decay": decay}},
          {{"params": [p for p in w.values() if p.dim() <= 1],
           "weight_decay": decay if decay_all else 0.0}}]
optimizer = torch.optim.{}
for step in range({}):
    for k, g in load_file(f"step-{{step}}.safetensors").items():
        w[k].grad = g * (0.25 if step % 3 == 0 else 1.0)
    for group in optimizer.param_groups:
        group["lr"] = 0.02 / (step + 1)
    optimizer.step()
answer = {{k: p.detach().contiguous() for k, p in w.items()}}
for k, p in w.items():
    for name, value in optimizer.state[p].items():
        if value is not None and name != "step":
            answer[k + "." + name] = value.contiguous()
save_file(answer, "end.safetensors")
)",
      c.spec.weight_decay(), c.spec.decay_norms_and_biases() ? "True" : "False", c.call, kSteps);
}

NamedTensors ByName(const FlatParameters& parameters, const at::Tensor& flat) {
  NamedTensors named;
  for (const FlatParameters::Entry& entry : parameters.entries()) {
    named.emplace_back(entry.name, FlatParameters::View(flat, entry));
  }
  return named;
}

TEST_F(OptimizerTest, AgreesWithPyTorch) {
  for (const TorchCase& c : TorchCases()) {
    const TemporaryDirectory directory;
    FlatParameters parameters = RandomParameters();
    WriteSafetensors(directory.path() / "start.safetensors",
                     ByName(parameters, parameters.values()), {});
    for (int step = 0; step < kSteps; ++step) {
      WriteSafetensors(directory.path() / fmt::format("step-{}.safetensors", step),
                       ByName(parameters, GradientOf(parameters, step)), {});
    }
    RunPython(directory.path(), TorchProgram(c));
    const std::unique_ptr<Optimizer> optimizer = MakeOptimizer(c.spec, parameters);
    TakeSteps(*optimizer, parameters, 0, kSteps);
    const SafetensorsFile answer(directory.path() / "end.safetensors");
    for (const auto& [name, value] : ByName(parameters, parameters.values())) {
      EXPECT_LT(RelativeError(value, answer.Read(name)), 1e-6) << c.name << " " << name;
    }
    for (const auto& [state, flat] : optimizer->State()) {
      if (!c.state.contains(state)) continue;
      for (const auto& [name, value] : ByName(parameters, flat)) {
        EXPECT_LT(RelativeError(value, answer.Read(name + "." + c.state.at(state))), 1e-6)
            << c.name << " " << name << " " << state;
      }
    }
  }
}

// ---- LARS, against the paper's formula ----

TEST_F(OptimizerTest, LarsIsThePapersFormula) {
  OptimizerSpec spec = Spec(OptimizerType::lars, false, /*decay_all=*/false, 0.05);
  spec.set_trust_coefficient(0.02);
  FlatParameters parameters = RandomParameters();
  std::map<std::string, at::Tensor> w;
  std::map<std::string, at::Tensor> v;
  for (const auto& [name, value] : ByName(parameters, parameters.values())) {
    w[name] = value.cpu().to(torch::kFloat64);
    v[name] = torch::zeros_like(w[name]);
  }
  for (int step = 0; step < kSteps; ++step) {
    for (const auto& [name, gradient] : ByName(parameters, GradientOf(parameters, step))) {
      const at::Tensor g = gradient.to(torch::kFloat64) * Scale(step);
      const double decay = g.dim() > 1 ? 0.05 : 0;
      const double w_norm = w[name].norm().item<double>();
      const double g_norm = g.norm().item<double>();
      // The weights that begin at zero are free at first.
      const double ratio =
          g.dim() > 1 && w_norm > 0 ? 0.02 * w_norm / (g_norm + decay * w_norm) : 1;
      v[name] = 0.9 * v[name] + Rate(step) * ratio * (g + decay * w[name]);
      w[name] = w[name] - v[name];
    }
  }
  const std::unique_ptr<Optimizer> optimizer = MakeOptimizer(spec, parameters);
  TakeSteps(*optimizer, parameters, 0, kSteps);
  for (const auto& [name, value] : ByName(parameters, parameters.values())) {
    EXPECT_LT(RelativeError(value, w[name]), 1e-6) << name;
  }
  for (const auto& [name, value] : ByName(parameters, optimizer->State()[0].second)) {
    EXPECT_LT(RelativeError(value, v[name]), 1e-6) << name;
  }
}

TEST_F(OptimizerTest, TrustNeedsTwoLengths) {
  EXPECT_DOUBLE_EQ(TrustRatio(0.001, 4, 2, 0.5), 0.001 * 4 / (2 + 0.5 * 4));
  EXPECT_DOUBLE_EQ(TrustRatio(0.001, 0, 2, 0.5), 1);
  EXPECT_DOUBLE_EQ(TrustRatio(0.001, 4, 0, 0.5), 1);
}

// ---- what checkpoints and runs rely on ----

// State and step number are all there is: a new optimizer that gets them goes on to the same bits.
TEST_F(OptimizerTest, GoesOnFromItsState) {
  for (const OptimizerType type : {OptimizerType::sgd, OptimizerType::adamw, OptimizerType::lars}) {
    FlatParameters whole = RandomParameters();
    const std::unique_ptr<Optimizer> optimizer = MakeOptimizer(Spec(type), whole);
    TakeSteps(*optimizer, whole, 0, 5);
    FlatParameters resumed = RandomParameters();
    resumed.values().copy_(whole.values());
    const std::unique_ptr<Optimizer> next = MakeOptimizer(Spec(type), resumed);
    for (std::size_t i = 0; i < optimizer->State().size(); ++i) {
      EXPECT_EQ(next->State()[i].first, optimizer->State()[i].first);
      next->State()[i].second.copy_(optimizer->State()[i].second);
    }
    TakeSteps(*optimizer, whole, 5, kSteps);
    TakeSteps(*next, resumed, 5, kSteps);
    EXPECT_TRUE(torch::equal(resumed.values(), whole.values())) << OptimizerType_Name(type);
  }
}

// Threads share out the work, they do not change it.
TEST_F(OptimizerTest, AnyNumberOfThreadsTakesTheSameSteps) {
  const int before = at::get_num_threads();
  for (const OptimizerType type : {OptimizerType::sgd, OptimizerType::adamw, OptimizerType::lars}) {
    at::Tensor expected;
    for (const int threads : {1, 2, 3}) {
      at::set_num_threads(threads);
      FlatParameters parameters = RandomParameters();
      TakeSteps(*MakeOptimizer(Spec(type), parameters), parameters, 0, 3);
      if (!expected.defined()) expected = parameters.values().clone();
      EXPECT_TRUE(torch::equal(parameters.values(), expected))
          << OptimizerType_Name(type) << " " << threads;
    }
  }
  at::set_num_threads(before);
}

TEST_F(OptimizerTest, TheNormIsExactAndTheSameWithAnyThreads) {
  const int before = at::get_num_threads();
  torch::manual_seed(5);
  for (const std::int64_t size : {0, 1, 1000, 16384, 100003}) {
    const at::Tensor flat = OnDevice(torch::randn({size}));
    const double expected = flat.to(torch::kFloat64).norm().item<double>();
    at::set_num_threads(1);
    const double one = GradientNorm(flat);
    at::set_num_threads(3);
    EXPECT_EQ(GradientNorm(flat), one);
    EXPECT_NEAR(one, expected, 1e-13 * expected);
  }
  at::set_num_threads(before);
}

// The largest float32 numbers have a norm; what is no number has none.
TEST_F(OptimizerTest, TheNormTellsOverflowFromLargeValues) {
  at::Tensor flat = OnDevice(torch::ones({40000}));
  flat[777] = std::numeric_limits<float>::max();
  EXPECT_TRUE(std::isfinite(GradientNorm(flat)));
  flat[39999] = std::numeric_limits<float>::infinity();
  EXPECT_FALSE(std::isfinite(GradientNorm(flat)));
  flat[39999] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(GradientNorm(flat)));
}

TEST_F(OptimizerTest, ClippingIsThatOfPyTorch) {
  const TemporaryDirectory directory;
  const double torch_scale = std::stod(RunPython(directory.path(), R"(
import torch
p = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
p.grad = torch.tensor([3., 4.], dtype=torch.float64)
torch.nn.utils.clip_grad_norm_([p], 2.0)
print(repr(float(p.grad[0]) / 3))
)"));
  EXPECT_NEAR(ClipFactor(5, 2), torch_scale, 1e-12);
  EXPECT_EQ(ClipFactor(1, 2), 1);
  EXPECT_EQ(ClipFactor(1e9, 0), 1);
}

// ---- moving average ----

Graph SmallNetwork() {
  GraphBuilder b({3, 8, 8});
  int x = b.Conv("conv", b.input(), {.out = 4, .kernel = {3, 3}});
  x = b.PRelu("prelu", b.BatchNorm("bn", x));
  x = b.Linear("fc", b.Flatten("flatten", x), 5, true);
  b.BatchNorm("features", x, /*fixed_weight=*/true);
  return b.Finish();
}

TEST_F(OptimizerTest, TheAverageIsItsFormula) {
  const torch::NoGradGuard no_grad;
  const Graph graph = SmallNetwork();
  for (const double decay : {0.5, 0.9998}) {
    NetworkState state(graph);
    state.Initialise(graph, 3);
    WeightAverage average(graph, state, decay);
    std::map<std::string, at::Tensor> expected;
    for (const auto& [name, value] : state.Named()) {
      EXPECT_TRUE(torch::equal(average.average().Get(name), value)) << "begins as a copy";
      expected[name] = value.cpu().to(torch::kFloat64, false, true);
    }
    for (int step = 0; step < 40; ++step) {
      const double d = std::min(decay, (1.0 + step) / (10.0 + step));
      for (const auto& [name, value] : state.Named()) {
        if (name == "features.weight") continue;  // never changes
        if (value.is_floating_point()) {
          value.add_(torch::randn_like(value));
          expected[name] = d * expected[name] + (1 - d) * value.cpu().to(torch::kFloat64);
        } else {
          value.add_(1);
          expected[name] = value.cpu().to(torch::kFloat64, false, true);
        }
      }
      average.Update(state, step);
    }
    for (const auto& [name, value] : average.average().Named()) {
      EXPECT_LT(RelativeError(value, expected[name]), 1e-6) << name << " " << decay;
    }
  }
}

}  // namespace
}  // namespace fr
