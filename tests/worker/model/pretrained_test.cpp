// A model of whatever preprocessing is where training starts, and computes the same there.

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/temporary_directory.h"
#include "worker/backbones/run/compute_node.h"
#include "worker/model/model.h"

namespace fr {
namespace {

using testing::HasSubstr;

ModelInfo InfoOf(Network network, Preprocessing preprocessing) {
  ModelInfo info;
  info.spec.set_network(network);
  info.spec.set_embedding_size(16);
  info.preprocessing = preprocessing;
  return info;
}

at::Tensor Embed(const Graph& graph, const NetworkState& state, const at::Tensor& pixels,
                 const Preprocessing& preprocessing) {
  const torch::NoGradGuard no_grad;
  return ComputeGraph(graph, state, (pixels - preprocessing.mean) / preprocessing.std,
                      torch::kFloat, {});
}

std::string Message(const std::filesystem::path& path, const ModelSpec& wanted) {
  NetworkState state(GraphOf(wanted));
  try {
    ApplyPretrained(path, wanted, state);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "";
}

TEST(Pretrained, ComputesTheSameWithOurPreprocessing) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "model.safetensors";
  const at::Tensor pixels = torch::randint(0, 256, {2, 3, 112, 112}).to(torch::kFloat);
  for (const Network network : {Network::mbf, Network::vit_t}) {
    for (const Preprocessing& preprocessing : {Preprocessing{}, Preprocessing{127.5, 128}}) {
      Model model(InfoOf(network, preprocessing));
      model.state().Initialise(model.graph(), /*seed=*/3);
      SaveModel(model, path);
      NetworkState state(model.graph());
      ApplyPretrained(path, model.info().spec, state);
      const at::Tensor expected = Embed(model.graph(), model.state(), pixels, preprocessing);
      const at::Tensor embeddings = Embed(model.graph(), state, pixels, {});
      EXPECT_LT((embeddings - expected).norm().item<double>(),
                1e-5 * expected.norm().item<double>());
    }
  }
}

TEST(Pretrained, RefusesWhatCannotBeStartedFrom) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "model.safetensors";
  const Model model(InfoOf(Network::mbf, {}));
  SaveModel(model, path);
  ModelSpec wanted = model.info().spec;
  EXPECT_EQ(Message(path, wanted), "");
  wanted.set_network(Network::r18);
  EXPECT_THAT(Message(path, wanted), HasSubstr("a model of mbf, 16 values, this job trains r18"));
  wanted = model.info().spec;
  wanted.set_embedding_size(17);
  EXPECT_THAT(Message(path, wanted), HasSubstr("16 values, this job trains mbf, 17 values"));
  wanted = model.info().spec;
  wanted.set_dropout(0);
  wanted.set_precision(Precision::bf16);  // says nothing about weights
  EXPECT_EQ(Message(path, wanted), "");

  SaveModel(Model(InfoOf(Network::mbf, {0, 1})), path);
  EXPECT_THAT(Message(path, wanted), HasSubstr("pixels less 0"));
  EXPECT_THAT(Message(directory.path() / "", wanted), HasSubstr("holds no model"));
}

}  // namespace
}  // namespace fr
