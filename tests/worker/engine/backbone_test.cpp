// What training and inference compute, against the plain definition of the same graph
// (ComputeGraph); the definition itself is compared with PyTorch's networks in
// tests/worker/backbones. One rank's work: on rank 0, but for the batch norm of all ranks.

#include "worker/backbones/run/backbone.h"

#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <torch/torch.h>

#include "common/base/error.h"
#include "common/networks/graph.h"
#include "tests/worker/engine/device.h"
#include "worker/backbones/run/compute_node.h"
#include "worker/backbones/run/inference_plan.h"
#include "worker/backbones/run/torch_script.h"

namespace fr {
namespace {

// Small, with every kind of node and of fusion: an IR block with shortcut, a residual depthwise
// block, paired channels, squeeze-and-excitation, pools, concatenation, slices, tokens.
Graph EveryKindOfNode(double probability = 0) {
  GraphBuilder b({3, 16, 16});
  int x = b.Conv("stem", b.input(), {.out = 8, .kernel = {3, 3}, .padding = {1, 1}});
  x = b.PRelu("stem_prelu", b.BatchNorm("stem_bn", x));
  b.BeginBlock();
  int y = b.BatchNorm("ir.bn1", x);
  y = b.Conv("ir.conv1", y, {.out = 12, .kernel = {3, 3}, .padding = {1, 1}});
  y = b.PRelu("ir.prelu", b.BatchNorm("ir.bn2", y));
  y = b.Conv("ir.conv2", y, {.out = 12, .kernel = {3, 3}, .stride = 2, .padding = {1, 1}});
  y = b.BatchNorm("ir.bn3", y);
  int shortcut = b.BatchNorm("ir.down.1", b.Conv("ir.down.0", x, {.out = 12, .stride = 2}));
  x = b.Add("ir.add", y, shortcut);
  b.BeginBlock();
  y = b.BatchNorm("ir2.bn1", x);
  y = b.PRelu(
      "dw.prelu",
      b.BatchNorm("dw.bn", b.Conv("dw.conv", y,
                                  {.out = 12, .kernel = {3, 3}, .padding = {1, 1}, .groups = 12})));
  y = b.Relu6("pair.relu6",
              b.BatchNorm("pair.bn",
                          b.Conv("pair.conv", y,
                                 {.out = 12, .kernel = {3, 3}, .padding = {1, 1}, .groups = 6})));
  x = b.Add("dw.add", b.BatchNorm("dw.bn2", b.Conv("dw.conv2", y, {.out = 12})), x);
  b.BeginBlock();
  int gate = b.Conv("se.fc1", b.GlobalAveragePool("se.pool", x), {.out = 4, .bias = true});
  gate = b.Conv("se.fc2", b.PRelu("se.prelu", gate), {.out = 12, .bias = true});
  x = b.Multiply("se.scale", x, b.Sigmoid("se.sigmoid", gate));
  b.BeginBlock();
  const int pooled = b.MaxPool("max", x, {.kernel = 3, .stride = 2, .padding = 1});
  const int average =
      b.AveragePool("average", x, {.kernel = 3, .stride = 2, .padding = 1, .count_padding = false});
  x = b.Concat("concat", {pooled, b.Slice("slice", average, 4, 8)});
  y = b.Conv("inception", x, {.out = 16, .bias = true});
  x = b.Relu("inception_relu", b.Add("inception_add", x, y, 0.17));
  b.BeginBlock();
  int t = b.AddPositions("positions", b.Tokens("tokens", x), {Init::Kind::kNormal, 0.02});
  const int hidden = b.HideTokens("hide", t, probability);
  y = b.Linear("qkv", b.LayerNorm("norm", hidden), 48, false);
  y = b.Linear("proj", b.Attention("attention", y, 4), 16, true);
  t = b.Add("token_add", hidden, b.DropPath("drop_path", y, probability));
  t = b.RestoreTokens("mask_token", t, hidden, {Init::Kind::kNormal, 0.02});
  b.BeginBlock();
  x = b.Dropout("dropout", b.Flatten("flatten", t), probability);
  x = b.Linear("fc", x, 10, true);
  b.BatchNorm("features", x, /*fixed_weight=*/true);
  return b.Finish();
}

// Values that make every term count: no scale of one, no mean of zero.
void Shake(const Graph& graph, NetworkState& state) {
  const torch::NoGradGuard no_grad;
  for (const Parameter& parameter : graph.Parameters()) {
    at::Tensor tensor = state.Get(parameter.name);
    if (parameter.name.ends_with("running_var")) tensor.uniform_(0.5, 1.5);
    if (parameter.name.ends_with("running_mean")) tensor.normal_(0, 0.2);
    if (parameter.shape.size() == 1 && parameter.role == Parameter::Role::kTrained) {
      tensor.add_(OnDevice(at::randn(parameter.shape)) * 0.2);
    }
  }
}

double Difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).norm() / (b.norm() + 1e-12)).item<double>();
}

std::map<std::string, at::Tensor> Gradients(NetworkState& state) {
  std::map<std::string, at::Tensor> gradients;
  for (const auto& entry : state.trained().entries()) {
    gradients[entry.name] = FlatParameters::View(state.trained().gradients(), entry).clone();
  }
  state.trained().gradients().zero_();
  return gradients;
}

// A network with its tensors; copies have the same values.
struct Net {
  explicit Net(double probability = 0) : graph(EveryKindOfNode(probability)), state(graph) {
    state.Initialise(graph, 3);
    Shake(graph, state);
  }

  Graph graph;
  NetworkState state;
};

struct Outcome {
  at::Tensor embedding;
  std::map<std::string, at::Tensor> gradients;
};

class BackboneTest : public testing::Test {
 protected:
  void SetUp() override {
    if (TestCommunicator().rank() != 0) GTEST_SKIP() << "runs on rank 0";
    torch::manual_seed(7);
    images_ = OnDevice(torch::randn({5, 3, 16, 16}));
    embedding_gradients_ = OnDevice(torch::randn({5, 10}));
  }

  Outcome Plain(Net& net) {
    ComputeMode mode;
    mode.training = true;
    const at::Tensor embedding = ComputeGraph(net.graph, net.state, images_, at::kFloat, mode);
    embedding.backward(embedding_gradients_);
    return {embedding.detach(), Gradients(net.state)};
  }

  Outcome Fused(Net& net, const TrainingOptions& options) {
    TrainingPlan plan(net.graph, net.state, options);
    torch::manual_seed(11);  // of dropout and its kin
    const at::Tensor embedding = plan.Forward(images_);
    plan.Backward(embedding_gradients_);
    return {embedding, Gradients(net.state)};
  }

  at::Tensor images_;
  at::Tensor embedding_gradients_;
};

TEST_F(BackboneTest, TrainingAgreesWithThePlainDefinition) {
  Net plain;
  Net fused;
  const Outcome expected = Plain(plain);
  const Outcome outcome = Fused(fused, {});
  EXPECT_LT(Difference(outcome.embedding, expected.embedding), 1e-5);
  ASSERT_EQ(outcome.gradients.size(), expected.gradients.size());
  for (const auto& [name, gradient] : expected.gradients) {
    // Biases in front of a batch norm have none but rounding's.
    if (gradient.norm().item<double>() < 1e-4) continue;
    EXPECT_LT(Difference(outcome.gradients.at(name), gradient), 1e-3) << name;
  }
  for (const Parameter& parameter : plain.graph.Parameters()) {
    if (parameter.role == Parameter::Role::kTrained) continue;
    EXPECT_TRUE(
        at::allclose(fused.state.Get(parameter.name), plain.state.Get(parameter.name), 1e-4, 1e-6))
        << parameter.name;
  }
}

// Gradients add up until somebody sets them to zero: accumulation over several batches.
TEST_F(BackboneTest, GradientsAddUp) {
  Net net;
  TrainingPlan plan(net.graph, net.state, {});
  plan.Forward(images_);
  plan.Backward(embedding_gradients_);
  const at::Tensor once = net.state.trained().gradients().clone();
  plan.Forward(images_);
  plan.Backward(embedding_gradients_);
  EXPECT_LT(Difference(net.state.trained().gradients(), 2 * once), 1e-5);
}

// What was told to be final.
struct Announcements {
  explicit Announcements(FlatParameters& parameters)
      : gradients(parameters.gradients()),
        times(at::zeros_like(gradients)),
        values(at::zeros_like(gradients)) {}

  GradientsReady Listener() {
    return [this](std::int64_t begin, std::int64_t end) {
      times.slice(0, begin, end).add_(1);
      values.slice(0, begin, end).copy_(gradients.slice(0, begin, end));
      order.push_back(begin);
    };
  }

  at::Tensor gradients;
  at::Tensor times;   // that each element was announced
  at::Tensor values;  // that it had then
  std::vector<std::int64_t> order;
};

void ExpectOnceAndFinal(const Announcements& announced, const std::string& what) {
  EXPECT_TRUE(announced.times.eq(1).all().item<bool>()) << what;
  EXPECT_TRUE(at::equal(announced.values, announced.gradients)) << what;
  EXPECT_GT(announced.gradients.norm().item<double>(), 0) << what;
}

// Gradients may travel while the rest is computed: each is announced once and never changes again.
TEST_F(BackboneTest, EveryFamilyAnnouncesEachGradientOnceWhenItIsFinal) {
  for (const Network network :
       {Network::r18, Network::mbf, Network::vit_t, Network::densenet121, Network::dpn68}) {
    NetworkOptions options;
    options.network = network;
    Backbone backbone(options, {}, 3);
    Announcements announced(backbone.parameters());
    const at::Tensor embeddings = backbone.Forward(OnDevice(torch::randn({2, 3, 112, 112})));
    backbone.Backward(OnDevice(torch::randn(embeddings.sizes())), announced.Listener());
    ExpectOnceAndFinal(announced, Network_Name(network));
    // From the back, as buckets are cut.
    EXPECT_GT(announced.order.front(), announced.order.back()) << Network_Name(network);
  }
}

TEST_F(BackboneTest, RecomputedBlocksAnnounceTheirGradientsToo) {
  Net net(0.3);
  TrainingOptions options;
  options.recompute = true;
  TrainingPlan plan(net.graph, net.state, options);
  for (int pass = 0; pass < 2; ++pass) {  // the second adds to the first
    plan.Forward(images_);
    Announcements announced(net.state.trained());
    plan.Backward(embedding_gradients_, announced.Listener());
    ExpectOnceAndFinal(announced, "every kind of node");
  }
}

// Random draws, too: a block that is computed again drops what it dropped before.
TEST_F(BackboneTest, RecomputationChangesNoBit) {
  Net kept(0.3);
  Net again(0.3);
  TrainingOptions options;
  const Outcome expected = Fused(kept, options);
  options.recompute = true;
  const Outcome outcome = Fused(again, options);
  EXPECT_TRUE(at::equal(outcome.embedding, expected.embedding));
  for (const auto& [name, gradient] : expected.gradients) {
    EXPECT_TRUE(at::equal(outcome.gradients.at(name), gradient)) << name;
  }
  EXPECT_TRUE(
      at::equal(again.state.Get("ir.bn2.running_var"), kept.state.Get("ir.bn2.running_var")));
}

TEST_F(BackboneTest, RandomnessIsOffOnRequest) {
  Net net(0.3);
  TrainingOptions options;
  options.randomness = false;
  Net without;
  EXPECT_LT(Difference(Fused(net, options).embedding, Fused(without, {}).embedding), 1e-6);
}

// The gradients point the same way; how far they may differ is bfloat16's to say.
TEST_F(BackboneTest, Bfloat16TrainsAlike) {
  Net single;
  Net half;
  TrainingOptions options;
  const Outcome expected = Fused(single, options);
  options.precision = at::kBFloat16;
  const Outcome outcome = Fused(half, options);
  EXPECT_EQ(outcome.embedding.scalar_type(), at::kFloat);
  EXPECT_LT(Difference(outcome.embedding, expected.embedding), 0.05);
  std::vector<at::Tensor> flat;
  std::vector<at::Tensor> expected_flat;
  for (const auto& [name, gradient] : expected.gradients) {
    flat.push_back(outcome.gradients.at(name).flatten());
    expected_flat.push_back(gradient.flatten());
  }
  EXPECT_GT(at::cosine_similarity(at::cat(flat), at::cat(expected_flat), 0).item<double>(), 0.99);
}

TEST_F(BackboneTest, InferenceAgreesWithThePlainDefinition) {
  Net net(0.3);
  const torch::NoGradGuard no_grad;
  const at::Tensor expected = ComputeGraph(net.graph, net.state, images_, at::kFloat, {});
  InferencePlan plan(net.graph, net.state, {at::kFloat, 5});
  EXPECT_LT(Difference(plan.Run(images_), expected), 1e-5);
  // Any batch, whatever it was made for.
  EXPECT_LT(Difference(plan.Run(images_.slice(0, 1, 3)), expected.slice(0, 1, 3)), 1e-5);
  InferencePlan half(net.graph, net.state, {at::kBFloat16, 5});
  EXPECT_LT(Difference(half.Run(images_), expected), 0.05);
}

TEST_F(BackboneTest, AnInferencePlanKeepsTheWeightsItWasMadeFrom) {
  Net net;
  InferencePlan plan(net.graph, net.state, {});
  const at::Tensor before = plan.Run(images_);
  {
    const torch::NoGradGuard no_grad;
    net.state.trained().values().zero_();
  }
  EXPECT_TRUE(at::equal(plan.Run(images_), before));
}

TEST_F(BackboneTest, ScriptedAndEagerAgree) {
  Net net(0.3);
  const torch::NoGradGuard no_grad;
  const at::Tensor expected = ComputeGraph(net.graph, net.state, images_, at::kFloat, {});
  torch::jit::Module module = MakeTorchScript(net.graph, net.state);
  EXPECT_LT(Difference(module.forward({images_}).toTensor(), expected), 1e-6);
  std::map<std::string, at::Tensor> names;
  for (const auto& item : module.named_parameters()) names[item.name] = item.value;
  for (const auto& item : module.named_buffers()) names[item.name] = item.value;
  EXPECT_EQ(names.size(), net.graph.Parameters().size());
  for (const Parameter& parameter : net.graph.Parameters()) {
    EXPECT_TRUE(at::equal(names.at(parameter.name), net.state.Get(parameter.name)))
        << parameter.name;
  }
}

TEST_F(BackboneTest, TensorsAreLoadedStrictly) {
  Net net;
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [name, tensor] : net.state.Named()) tensors[name] = tensor.clone();
  NetworkState other(net.graph);
  other.Load(tensors, "x");
  EXPECT_TRUE(at::equal(other.trained().values(), net.state.trained().values()));
  const auto expect_refused = [&](const std::string& named) {
    try {
      other.Load(tensors, "x.safetensors");
      FAIL() << named;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_NE(std::string(error.what()).find(named), std::string::npos) << error.what();
    }
  };
  tensors["stranger"] = torch::zeros({1});
  expect_refused("stranger");
  tensors.erase("stranger");
  tensors["fc.weight"] = torch::zeros({3, 2});
  expect_refused("fc.weight");
  tensors.erase("fc.weight");
  expect_refused("fc.weight");
}

// With batch norm over all ranks, a batch split over them is the batch: embeddings, and the sum of
// the gradients.
TEST(BackboneRanks, BatchNormOfAllRanksIsThatOfTheWholeBatch) {
  TestCommunicator comm;
  torch::manual_seed(7);
  const at::Tensor images = OnDevice(torch::randn({7, 3, 16, 16}));
  const at::Tensor gradients = OnDevice(torch::randn({7, 10}));
  Net whole;
  TrainingPlan alone(whole.graph, whole.state, {});
  const at::Tensor expected = alone.Forward(images);
  alone.Backward(gradients);

  const std::int64_t begin = 7 * comm.rank() / comm.world_size();
  const std::int64_t end = 7 * (comm.rank() + 1) / comm.world_size();
  Net part;
  TrainingOptions options;
  options.batch_norm_comm = &comm;
  TrainingPlan plan(part.graph, part.state, options);
  const at::Tensor embedding = plan.Forward(images.slice(0, begin, end));
  plan.Backward(gradients.slice(0, begin, end));
  EXPECT_LT(Difference(embedding, expected.slice(0, begin, end)), 1e-5);
  at::Tensor sum = part.state.trained().gradients().clone();
  comm.AllReduceSum(sum);
  EXPECT_LT(Difference(sum, whole.state.trained().gradients()), 1e-4);
  EXPECT_TRUE(at::allclose(part.state.Get("ir.bn2.running_var"),
                           whole.state.Get("ir.bn2.running_var"), 1e-5));
}

// Fewer images than ranks: who has none still takes part, and its tensors stay numbers.
TEST(BackboneRanks, ARankMayHaveNoImages) {
  TestCommunicator comm;
  for (Communicator* norm_comm :
       {static_cast<Communicator*>(&comm), static_cast<Communicator*>(nullptr)}) {
    Net net;
    TrainingOptions options;
    options.batch_norm_comm = norm_comm;
    TrainingPlan plan(net.graph, net.state, options);
    const std::int64_t images = comm.rank() == 0 ? 2 : 0;
    const at::Tensor embedding = plan.Forward(OnDevice(torch::ones({images, 3, 16, 16})));
    EXPECT_EQ(embedding.size(0), images);
    plan.Backward(OnDevice(torch::ones({images, 10})));
    EXPECT_TRUE(net.state.trained().gradients().isfinite().all().item<bool>());
    for (const auto& [name, tensor] : net.state.Named()) {
      EXPECT_TRUE(tensor.isfinite().all().item<bool>()) << name;
    }
  }
}

}  // namespace
}  // namespace fr
