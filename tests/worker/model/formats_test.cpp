// What of models needs no LibTorch: descriptions, files' bytes, finding networks.

#include <filesystem>
#include <string>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "common/networks/network.h"
#include "tests/python.h"
#include "worker/model/find_network.h"
#include "worker/model/foreign_model.h"
#include "worker/model/model_info.h"
#include "worker/model/npy.h"
#include "worker/model/onnx_export.h"

namespace fr {
namespace {

using testing::HasSubstr;

ModelSpec Spec(Network network, int embedding_size) {
  ModelSpec spec;
  spec.set_network(network);
  spec.set_embedding_size(embedding_size);
  return spec;
}

std::map<std::string, std::vector<std::int64_t>> ShapesOf(const ModelSpec& spec) {
  std::map<std::string, std::vector<std::int64_t>> shapes;
  for (const Parameter& parameter : GraphOf(spec).Parameters()) {
    shapes[parameter.name] = parameter.shape;
  }
  return shapes;
}

// Every parameter different, and variances positive.
HostTensor SomeTensor(const Graph& graph, const std::string& name) {
  for (const Parameter& parameter : graph.Parameters()) {
    if (parameter.name != name) continue;
    std::vector<float> values;
    for (std::int64_t i = 0; i < parameter.numel(); ++i) {
      values.push_back(0.5F +
                       static_cast<float>((i * 7 + static_cast<int>(name.size())) % 13) / 13);
    }
    return HostTensor::FromFloats(parameter.shape, std::move(values));
  }
  throw Error(ErrorCode::kNotFound, name);
}

TEST(ModelInfo, ReadsBackAsItWas) {
  ModelInfo info;
  info.spec = Spec(Network::r18, 128);
  info.spec.set_output(ModelSpec::GAP);
  info.spec.set_squeeze_excite(true);
  info.preprocessing = {0.1, 1.0 / 3};
  info.provenance = {{"source", "a \"b\""}, {"step", "12"}};
  const ModelInfo read = FromMetadata(ToMetadata(info), "file");
  EXPECT_EQ(read.spec.SerializeAsString(), info.spec.SerializeAsString());
  EXPECT_EQ(read.preprocessing, info.preprocessing);
  EXPECT_EQ(read.provenance, info.provenance);
}

TEST(Npy, IsWhatNumpyReads) {
  const TemporaryDirectory directory;
  const std::vector<float> values = {1.5F, -2, 3, 4, 5, 0.1F};
  WriteFileAtomically(directory.path() / "a.npy", ToNpy(values, 2, 3));
  EXPECT_EQ(RunPython(directory.path(),
                      "import numpy\na = numpy.load('a.npy')\nprint(a.dtype, a.tolist(), end='')"),
            "float32 [[1.5, -2.0, 3.0], [4.0, 5.0, 0.10000000149011612]]");
  // The data begin at a multiple of 64 bytes.
  for (const std::int64_t rows : {0L, 1L, 1'000'000'007L}) {
    EXPECT_EQ(ToNpy({}, rows, 512).size() % 64, 0) << rows;
  }
}

// A network, with its output and gate, is told from all others by its tensors.
TEST(FindNetwork, TellsAllNetworksApart) {
  const std::vector<ModelSpec> all = CandidateNetworks({.embedding_size = 64});
  EXPECT_GT(all.size(), 60);
  // Each search builds them all: every fifth will do, and finds each kind of difference.
  for (std::size_t i = 0; i < all.size(); i += 5) {
    const ModelSpec& spec = all[i];
    const ModelSpec found = FindNetworkByTensors(ShapesOf(spec), {}, "file");
    EXPECT_EQ(found.SerializeAsString(), spec.SerializeAsString()) << DescribeSpec(spec);
  }
}

TEST(FindNetwork, SaysWhatCameClosest) {
  auto shapes = ShapesOf(Spec(Network::r34, 512));
  shapes.erase("layer3.5.conv2.weight");
  try {
    FindNetworkByTensors(shapes, {}, "somebody.pth");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(error.what(), HasSubstr("somebody.pth"));
    EXPECT_THAT(error.what(), HasSubstr("\n  r34, 512 values: has no 'layer3.5.conv2.weight'"));
  }
}

// What is written in ONNX is matched again: with the batch norms kept, tensor by tensor.
TEST(Onnx, ComesBack) {
  const TemporaryDirectory directory;
  for (const Network network : {Network::r18, Network::mbf, Network::m1, Network::vit_t,
                                Network::inception_resnet_v2, Network::dpn68}) {
    ModelInfo info;
    info.spec = Spec(network, 32);
    info.preprocessing.std = 128;
    const Graph graph = GraphOf(info.spec);
    const TensorSource tensors = [&](const std::string& name) { return SomeTensor(graph, name); };
    for (const bool fold : {true, false}) {
      SCOPED_TRACE(fmt::format("{} {}", Network_Name(network), fold));
      const auto path = directory.path() / "model.onnx";
      WriteFileAtomically(path, ToOnnx(graph, tensors, info, {fold}));
      const ForeignModel read = ReadOnnxModel(path, {});
      EXPECT_EQ(DescribeSpec(read.spec), DescribeSpec(info.spec));
      EXPECT_EQ(read.preprocessing, info.preprocessing);
      for (const Parameter& parameter : graph.Parameters()) {
        if (parameter.role == Parameter::Role::kCounter || parameter.name == "mask_token") continue;
        ASSERT_TRUE(read.tensors.contains(parameter.name)) << parameter.name;
        const HostTensor& tensor = read.tensors.at(parameter.name);
        EXPECT_EQ(tensor.shape, parameter.shape) << parameter.name;
        if (fold) continue;
        EXPECT_TRUE(tensor.bytes == tensors(parameter.name).bytes) << parameter.name;
      }
    }
  }
}

}  // namespace
}  // namespace fr
