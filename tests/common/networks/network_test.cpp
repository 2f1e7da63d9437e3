// The networks of the registry, as data: against published figures, and against PyTorch.

#include "common/networks/network.h"

#include <cmath>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/temporary_directory.h"
#include "common/networks/costs.h"
#include "tests/python.h"

namespace fr {
namespace {

using Shape = std::vector<std::int64_t>;
using ::testing::HasSubstr;

std::vector<Network> AllNetworks() {
  std::vector<Network> all;
  for (int number = Network_MIN; number <= Network_MAX; ++number) {
    if (Network_IsValid(number)) all.push_back(static_cast<Network>(number));
  }
  return all;
}

bool IsVit(Network network) { return network >= Network::vit_t && network <= Network::vit_l; }
bool IsIrResNet(Network network) { return network <= Network::r100 || network == Network::r200; }

// Every network with its own output, with each of the others, and with squeeze-and-excitation.
std::vector<NetworkOptions> AllOptions(std::int64_t embedding_size) {
  std::vector<NetworkOptions> all;
  for (const Network network : AllNetworks()) {
    NetworkOptions options;
    options.network = network;
    options.embedding_size = embedding_size;
    all.push_back(options);
    if (IsVit(network)) continue;
    for (const auto output : {ModelSpec::E, ModelSpec::GAP, ModelSpec::FC, ModelSpec::GDC}) {
      options.output = output;
      all.push_back(options);
    }
    if (!IsIrResNet(network)) continue;
    options.output.reset();
    options.squeeze_excite = true;
    all.push_back(options);
  }
  return all;
}

std::string Name(const NetworkOptions& options) {
  std::string name = Network_Name(options.network);
  if (options.output) name += " " + ModelSpec::Output_Name(*options.output);
  if (options.squeeze_excite) name += " squeeze_excite";
  return name;
}

Graph Make(Network network, std::int64_t embedding_size = 512) {
  NetworkOptions options;
  options.network = network;
  options.embedding_size = embedding_size;
  return MakeNetwork(options);
}

const Node& Find(const Graph& graph, const std::string& name) {
  for (const Node& node : graph.nodes()) {
    if (node.name == name) return node;
  }
  throw Error(ErrorCode::kInternal, "no node is named " + name);
}

// --- Published figures

double MultiplyAddsGiga(const Graph& graph) {
  return static_cast<double>(CostsOf(graph).multiply_adds) / 1e9;
}

// With what ptflops counts besides, by which arcface_torch's flops.py made the figures of its
// README: biases, two a value of batch norm, one a value of PReLU.
double PtflopsGiga(const Graph& graph) {
  double besides = 0;
  for (const Node& node : graph.nodes()) {
    double values = 1;
    for (const std::int64_t size : node.shape) values *= static_cast<double>(size);
    if (node.has_bias()) besides += values;
    if (node.op == Op::kBatchNorm) besides += 2 * values;
    if (node.op == Op::kPRelu) besides += values;
  }
  return MultiplyAddsGiga(graph) + besides / 1e9;
}

// github.com/deepinsight/insightface, recognition/arcface_torch/README.md, "ViT For Face
// Recognition", column FLOPs, and "mobilefacenet-0.45G". The ViTs' are products alone, those of
// attention added by vit.py's extra_gflops.
TEST(Published, MultiplyAddsOfArcfaceTorch) {
  EXPECT_NEAR(PtflopsGiga(Make(Network::r18)), 2.6, 0.05);
  EXPECT_NEAR(PtflopsGiga(Make(Network::r50)), 6.3, 0.05);
  EXPECT_NEAR(PtflopsGiga(Make(Network::r100)), 12.1, 0.05);
  EXPECT_NEAR(PtflopsGiga(Make(Network::r200)), 23.5, 0.05);
  EXPECT_NEAR(PtflopsGiga(Make(Network::mbf)), 0.45, 0.005);
  EXPECT_NEAR(MultiplyAddsGiga(Make(Network::vit_t)), 1.5, 0.05);
  EXPECT_NEAR(MultiplyAddsGiga(Make(Network::vit_s)), 5.7, 0.05);
  EXPECT_NEAR(MultiplyAddsGiga(Make(Network::vit_b)), 11.4, 0.05);
  EXPECT_NEAR(MultiplyAddsGiga(Make(Network::vit_l)), 25.3, 0.05);
}

// OpenVINO's model zoo, face-recognition-resnet34-arcface (LResNet34E-IR) and
// -resnet100-arcface-onnx: MParams and GFLOPs, two a multiply-add. Their batch norms are folded.
TEST(Published, IrResNetsOfOpenVino) {
  struct Figures {
    Network network;
    double parameters;
    double flops;
  };
  for (const Figures& published :
       {Figures{Network::r34, 34.129e6, 8.934e9}, Figures{Network::r100, 65.132e6, 24.2115e9}}) {
    const Costs costs = CostsOf(Make(published.network));
    EXPECT_NEAR(static_cast<double>(costs.parameters) / published.parameters, 1, 1e-3);
    EXPECT_NEAR(2 * static_cast<double>(costs.multiply_adds) / published.flops, 1, 2e-3);
  }
}

// arXiv:1804.07573, table 1 and the text above it: 0.99 million parameters, 221 million
// multiply-adds, at an embedding of 128. Its parameters are those of the model as it is deployed,
// 4.0 MB: a folded batch norm leaves one value a channel.
TEST(Published, MobileFaceNet) {
  const Graph graph = Make(Network::y1, 128);
  const Costs costs = CostsOf(graph);
  std::int64_t channels = 0;
  for (const Node& node : graph.nodes()) {
    if (node.op == Op::kBatchNorm) channels += node.weight().numel();
  }
  EXPECT_NEAR(static_cast<double>(costs.parameters - channels) / 1e6, 0.99, 0.005);
  EXPECT_NEAR(static_cast<double>(costs.multiply_adds) / 1e6, 221, 0.5);
}

// Of `graph` without the nodes whose names begin with one of `prefixes`.
Costs Without(const Graph& graph, const std::vector<std::string>& prefixes) {
  const Costs all = CostsOf(graph);
  Costs rest;
  for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
    bool counts = true;
    for (const std::string& prefix : prefixes) {
      if (graph.nodes()[i].name.starts_with(prefix)) counts = false;
    }
    if (!counts) continue;
    rest.parameters += all.nodes[i].parameters;
    rest.multiply_adds += all.nodes[i].multiply_adds;
  }
  return rest;
}

constexpr std::int64_t kClasses = 1000;

// The classifier in place of the output, for `features` values.
void AddClassifier(Costs& costs, std::int64_t features) {
  costs.parameters += (features + 1) * kClasses;
  costs.multiply_adds += features * kClasses;
}

// arXiv:1704.04861, table 8: 4.2 million parameters, 569 million multiply-adds. Its stem has stride
// 2 at 224 x 224: the same maps. Ours has PReLUs for ReLUs and another output.
TEST(Published, MobileNetOnImageNet) {
  const Graph graph = Make(Network::m1);
  Costs costs = Without(graph, {"gdc", "fc", "features"});
  for (const Node& node : graph.nodes()) {
    if (node.op == Op::kPRelu) costs.parameters -= node.weight().numel();
  }
  AddClassifier(costs, 1024);
  EXPECT_NEAR(static_cast<double>(costs.parameters) / 1e6, 4.2, 0.05);
  EXPECT_NEAR(static_cast<double>(costs.multiply_adds) / 1e6, 569, 0.5);
  // 4,253,864 in all in Keras' documentation; 4,231,976 of them trained.
  EXPECT_EQ(costs.parameters, 4'231'976);
}

// torchvision's documentation, DenseNet*_Weights: num_params and GFLOPS (they are multiply-adds).
// Its 7 x 7 stem with stride 2 leaves 112 x 112 of 224 x 224, as our 3 x 3 with stride 1 does of
// 112 x 112: all maps behind it are of one size.
TEST(Published, DenseNetsOnImageNet) {
  struct Figures {
    Network network;
    std::int64_t parameters;
    double giga;
    std::int64_t stem;
    std::int64_t features;
  };
  for (const Figures& published : {Figures{Network::densenet121, 7'978'856, 2.834, 64, 1024},
                                   Figures{Network::densenet161, 28'681'000, 7.728, 96, 2208},
                                   Figures{Network::densenet169, 14'149'480, 3.360, 64, 1664},
                                   Figures{Network::densenet201, 20'013'928, 4.291, 64, 1920}}) {
    Costs costs = Without(Make(published.network), {"output.", "features.conv0"});
    costs.parameters += published.stem * 3 * 7 * 7;
    costs.multiply_adds += published.stem * 3 * 7 * 7 * 112 * 112;
    AddClassifier(costs, published.features);
    EXPECT_EQ(costs.parameters, published.parameters) << Network_Name(published.network);
    EXPECT_NEAR(static_cast<double>(costs.multiply_adds) / 1e9, published.giga, 0.0005)
        << Network_Name(published.network);
  }
}

// timm's results/benchmark-infer-amp-nchw-pt113-cu117-rtx3090.csv: param_count and infer_gmacs at
// 224 x 224, with a stem of stride 2. fvcore, which made the latter, counts two for each value of a
// batch norm.
TEST(Published, DpnsOnImageNet) {
  struct Figures {
    Network network;
    double parameters;
    double giga;
    std::int64_t stem;
    std::int64_t stem_kernel;
    std::int64_t features;
  };
  for (const Figures& published : {Figures{Network::dpn68, 12.61, 2.35, 10, 3, 832},
                                   Figures{Network::dpn92, 37.67, 6.54, 64, 7, 2688}}) {
    const Graph graph = Make(published.network);
    Costs costs = Without(graph, {"output.", "features.conv1_1.conv"});
    for (const Node& node : graph.nodes()) {
      if (node.op != Op::kBatchNorm || node.name.starts_with("output.")) continue;
      costs.multiply_adds += 2 * node.shape[0] * node.shape[1] * node.shape[2];
    }
    const std::int64_t stem = published.stem * 3 * published.stem_kernel * published.stem_kernel;
    costs.parameters += stem;
    costs.multiply_adds += stem * 112 * 112;
    AddClassifier(costs, published.features);
    EXPECT_NEAR(static_cast<double>(costs.parameters) / 1e6, published.parameters, 0.005);
    EXPECT_NEAR(static_cast<double>(costs.multiply_adds) / 1e9, published.giga, 0.005);
  }
}

// The same table: 55.84 million parameters. Its multiply-adds are of 299 x 299.
TEST(Published, InceptionResnetV2OnImageNet) {
  Costs costs = Without(Make(Network::inception_resnet_v2), {"output."});
  AddClassifier(costs, 1536);
  EXPECT_NEAR(static_cast<double>(costs.parameters) / 1e6, 55.84, 0.005);
}

// --- An independent implementation

// Names and shapes of the whole state, what is trained, and multiply-adds are those of
// reference_networks.py, for every network and output.
TEST(Reference, NetworksAreThoseOfPyTorch) {
  const TemporaryDirectory directory;
  std::ofstream description(directory.path() / "networks.tsv");
  for (const NetworkOptions& options : AllOptions(96)) {
    const Graph graph = MakeNetwork(options);
    description << fmt::format("network\t{}\t{}\t{}\t{}\n", Network_Name(options.network),
                               options.output ? ModelSpec::Output_Name(*options.output) : "",
                               options.squeeze_excite ? 1 : 0, CostsOf(graph).multiply_adds);
    for (const Parameter& parameter : graph.Parameters()) {
      description << fmt::format("parameter\t{}\t{}\t{}\n", parameter.name,
                                 parameter.role == Parameter::Role::kTrained ? 1 : 0,
                                 fmt::join(parameter.shape, ","));
    }
  }
  description.close();
  const std::string answer = RunPython(directory.path(), fmt::format(R"(
import sys
sys.path.insert(0, "{}/tests/worker/backbones")
import reference_networks
reference_networks.compare_descriptions("networks.tsv", embedding_size=96)
)",
                                                                     FR_SOURCE_DIR));
  EXPECT_EQ(answer, "");
}

// --- Shapes and invariants

// A map has its stage's size and width, in every family.
TEST(Network, MapsShrinkAsTheyShould) {
  struct Map {
    Network network;
    std::string node;
    Shape shape;
  };
  for (const Map& map : std::vector<Map>{
           {Network::r50, "prelu", {64, 112, 112}},
           {Network::r50, "layer1.2.add", {64, 56, 56}},
           {Network::r50, "layer2.0.add", {128, 28, 28}},
           {Network::r50, "layer3.13.add", {256, 14, 14}},
           {Network::r50, "layer4.2.add", {512, 7, 7}},
           {Network::mbf, "layers.0.layers.2", {128, 56, 56}},
           {Network::mbf, "layers.3.layers.3.add", {128, 28, 28}},
           {Network::mbf, "layers.7.layers.1.add", {256, 7, 7}},
           {Network::y1, "layers.1.layers.2", {64, 56, 56}},
           {Network::y1, "layers.5.layers.5.add", {128, 14, 14}},
           {Network::y1, "conv_sep.layers.2", {512, 7, 7}},
           {Network::m1, "conv_1.relu", {32, 112, 112}},
           {Network::m1, "conv_3.relu", {128, 56, 56}},
           {Network::m1, "conv_12.relu", {512, 14, 14}},
           {Network::m1, "conv_14.relu", {1024, 7, 7}},
           {Network::inception_resnet_v2, "conv2d_2b.bn.act", {64, 53, 53}},
           {Network::inception_resnet_v2, "mixed_5b.concat", {320, 11, 11}},
           {Network::inception_resnet_v2, "repeat_1.19.act", {1088, 5, 5}},
           {Network::inception_resnet_v2, "conv2d_7b.bn.act", {1536, 2, 2}},
           {Network::densenet121, "features.relu0", {64, 112, 112}},
           {Network::densenet121, "features.denseblock1.concat", {256, 56, 56}},
           {Network::densenet161, "features.transition3.pool", {1056, 7, 7}},
           {Network::densenet201, "relu5", {1920, 7, 7}},
           {Network::dpn68, "features.conv1_1.bn.act", {10, 112, 112}},
           {Network::dpn68, "features.conv2_3.concat", {144, 56, 56}},
           {Network::dpn92, "features.conv4_20.concat", {1552, 14, 14}},
           {Network::dpn92, "features.conv5_bn_ac.bn.act", {2688, 7, 7}},
           {Network::vit_t, "patch_embed.tokens", {144, 256}},
           {Network::vit_b, "blocks.23.add2", {144, 512}},
           {Network::vit_l, "blocks.0.attn.qkv", {144, 2304}},
       }) {
    EXPECT_EQ(Find(Make(map.network), map.node).shape, map.shape) << map.node;
  }
}

// Whatever is asked for, the graph is one: inputs come before their uses, every value is used,
// names are unique, the embedding has its size, blocks follow each other.
TEST(Network, EveryGraphIsSound) {
  for (const std::int64_t embedding_size : {64, 512}) {
    for (const NetworkOptions& options : AllOptions(embedding_size)) {
      SCOPED_TRACE(Name(options));
      const Graph graph = MakeNetwork(options);
      EXPECT_EQ(graph.nodes().back().shape, Shape{embedding_size});
      std::set<std::string> nodes;
      std::set<std::string> parameters;
      int block = 0;
      for (int i = 0; i <= graph.output(); ++i) {
        const Node& node = graph.node(i);
        EXPECT_TRUE(nodes.insert(node.name).second) << node.name;
        EXPECT_EQ(node.inputs.empty(), node.op == Op::kInput) << node.name;
        for (const int input : node.inputs) EXPECT_LT(input, i) << node.name;
        EXPECT_GE(node.block, block) << node.name;
        block = node.block;
        for (const Parameter& parameter : node.parameters) {
          EXPECT_TRUE(parameters.insert(parameter.name).second) << parameter.name;
          EXPECT_TRUE(parameter.name.starts_with(node.name)) << parameter.name;
        }
      }
      const std::vector<int> uses = graph.UseCounts();
      for (int i = 0; i < graph.output(); ++i) {
        EXPECT_GT(uses[static_cast<std::size_t>(i)], 0) << graph.node(i).name;
      }
      EXPECT_EQ(uses.back(), 0);
      EXPECT_GT(block, 4);  // recompute has something to divide
    }
  }
}

// A dense layer's inner values are made from single maps: no concatenation leaves its block.
TEST(Network, RecomputeOfDenseNetsKeepsSingleMaps) {
  const Graph graph = Make(Network::densenet121);
  for (const Node& node : graph.nodes()) {
    for (const int input : node.inputs) {
      const Node& source = graph.node(input);
      if (source.op == Op::kConcat && source.name.ends_with(".inputs")) {
        EXPECT_EQ(source.block, node.block) << node.name;
      }
    }
  }
}

TEST(Network, StochasticDepthRisesFromZero) {
  const Graph graph = Make(Network::vit_t);
  std::map<std::string, double> probabilities;
  for (const Node& node : graph.nodes()) {
    if (node.op == Op::kDropPath) probabilities[node.name] = node.probability;
  }
  EXPECT_EQ(probabilities.size(), 22);  // two a block, none in the first
  EXPECT_DOUBLE_EQ(probabilities.at("blocks.1.drop_path1"), 0.1 / 11);
  EXPECT_DOUBLE_EQ(probabilities.at("blocks.11.drop_path2"), 0.1);
  EXPECT_DOUBLE_EQ(Find(graph, "hide_tokens").probability, 0.1);
  EXPECT_DOUBLE_EQ(Find(Make(Network::vit_l), "hide_tokens").probability, 0.05);
}

TEST(Network, DropoutIsOfOutputE) {
  NetworkOptions options;
  options.dropout = 0.4;
  EXPECT_DOUBLE_EQ(Find(MakeNetwork(options), "dropout").probability, 0.4);
  options.network = Network::densenet121;
  EXPECT_DOUBLE_EQ(Find(MakeNetwork(options), "output.dropout").probability, 0.4);
}

TEST(Network, RefusesOptionsThatItDoesNotHave) {
  const auto refusal = [](const NetworkOptions& options) -> std::string {
    try {
      MakeNetwork(options);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return error.what();
    }
    return "nothing was thrown";
  };
  const auto with = [](Network network) {
    NetworkOptions options;
    options.network = network;
    return options;
  };
  NetworkOptions options = with(Network::vit_s);
  options.output = ModelSpec::GAP;
  EXPECT_THAT(refusal(options), HasSubstr("model.output"));
  options = with(Network::vit_s);
  options.dropout = 0.1;
  EXPECT_THAT(refusal(options), HasSubstr("model.dropout"));
  for (const Network network : AllNetworks()) {
    options = with(network);
    options.squeeze_excite = true;
    if (IsIrResNet(network)) {
      EXPECT_EQ(refusal(options), "nothing was thrown");
    } else {
      EXPECT_THAT(refusal(options),
                  AllOf(HasSubstr("model.squeeze_excite"), HasSubstr(Network_Name(network))));
    }
  }
  for (const auto output : {ModelSpec::GAP, ModelSpec::FC, ModelSpec::GDC}) {
    options = with(Network::r18);
    options.output = output;
    options.dropout = 0.4;
    EXPECT_THAT(refusal(options), HasSubstr("model.dropout"));
  }
  options = with(Network::mbf);  // its own output is GDC
  options.dropout = 0.4;
  EXPECT_THAT(refusal(options), HasSubstr("model.dropout"));
  options = with(Network::r18);
  options.embedding_size = 0;
  EXPECT_THAT(refusal(options), HasSubstr("embedding_size"));
  EXPECT_THAT(refusal(with(static_cast<Network>(99))), HasSubstr("99"));
}

}  // namespace
}  // namespace fr
