#include "worker/align/mtcnn_networks.h"

#include <span>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include <ATen/ops/conv2d.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/prelu.h>
#include <ATen/ops/softmax.h>

#include "common/base/error.h"
#include "worker/model/host_tensors.h"
#include "worker/weights/torch_file.h"

namespace fr {
namespace {

using Weights = std::unordered_map<std::string, at::Tensor>;

struct Layer {
  std::string_view name;
  std::vector<std::int64_t> weight;  // its shape; a bias of weight[0], but for prelu
};

const std::vector<Layer> kPNet = {{"conv1", {10, 3, 3, 3}},   {"prelu1", {10}},
                                  {"conv2", {16, 10, 3, 3}},  {"prelu2", {16}},
                                  {"conv3", {32, 16, 3, 3}},  {"prelu3", {32}},
                                  {"conv4_1", {2, 32, 1, 1}}, {"conv4_2", {4, 32, 1, 1}}};

const std::vector<Layer> kRNet = {
    {"conv1", {28, 3, 3, 3}},  {"prelu1", {28}},      {"conv2", {48, 28, 3, 3}}, {"prelu2", {48}},
    {"conv3", {64, 48, 2, 2}}, {"prelu3", {64}},      {"dense4", {128, 576}},    {"prelu4", {128}},
    {"dense5_1", {2, 128}},    {"dense5_2", {4, 128}}};

const std::vector<Layer> kONet = {
    {"conv1", {32, 3, 3, 3}},   {"prelu1", {32}},          {"conv2", {64, 32, 3, 3}},
    {"prelu2", {64}},           {"conv3", {64, 64, 3, 3}}, {"prelu3", {64}},
    {"conv4", {128, 64, 2, 2}}, {"prelu4", {128}},         {"dense5", {256, 1152}},
    {"prelu5", {256}},          {"dense6_1", {2, 256}},    {"dense6_2", {4, 256}},
    {"dense6_3", {10, 256}}};

at::Tensor Take(const HostTensors& tensors, const std::string& name,
                const std::vector<std::int64_t>& shape, const std::string& file) {
  const HostTensor* tensor = tensors.Find(name);
  if (tensor == nullptr || tensor->shape != shape) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: has no {} of shape {}: this is not the network of MTCNN that "
                            "facenet-pytorch publishes; scripts/get-mtcnn fetches it",
                            file, name, ShapeText(shape)));
  }
  return ToTensor(*tensor);
}

Weights ReadWeights(const std::filesystem::path& path, const std::vector<Layer>& layers) {
  if (!std::filesystem::exists(path)) {
    throw Error(
        ErrorCode::kNotFound,
        fmt::format("{}: no such file. The weights of MTCNN are pnet.pt, rnet.pt and onet.pt of "
                    "the PyPI package facenet-pytorch 2.6.0: run scripts/get-mtcnn, or 'pip "
                    "download --no-deps facenet-pytorch==2.6.0', unzip the wheel and copy these "
                    "three from facenet_pytorch/data into {}; --mtcnn DIR or FR_MTCNN names "
                    "another directory",
                    path.string(), path.parent_path().string()));
  }
  const HostTensors tensors = ReadTorchStateDict(path);
  Weights weights;
  for (const Layer& layer : layers) {
    const std::string name(layer.name);
    weights[name + ".weight"] = Take(tensors, name + ".weight", layer.weight, path.string());
    if (name.starts_with("prelu")) continue;
    weights[name + ".bias"] = Take(tensors, name + ".bias", {layer.weight[0]}, path.string());
  }
  return weights;
}

at::Tensor Conv(const Weights& weights, const std::string& name, const at::Tensor& x) {
  return at::conv2d(x, weights.at(name + ".weight"), weights.at(name + ".bias"));
}

at::Tensor Dense(const Weights& weights, const std::string& name, const at::Tensor& x) {
  return at::linear(x, weights.at(name + ".weight"), weights.at(name + ".bias"));
}

at::Tensor PRelu(const Weights& weights, const std::string& name, const at::Tensor& x) {
  return at::prelu(x, weights.at(name + ".weight"));
}

at::Tensor Pool(const at::Tensor& x, std::int64_t size) {
  return at::max_pool2d(x, {size, size}, {2, 2}, {0, 0}, {1, 1}, /*ceil_mode=*/true);
}

// The probability of the second of two classes.
at::Tensor FaceProbability(const at::Tensor& logits) {
  return at::softmax(logits, 1).select(1, 1).contiguous();
}

// Columns before rows, as the networks' first home, MATLAB, has it.
at::Tensor Flatten(const at::Tensor& x) { return x.permute({0, 3, 2, 1}).reshape({x.size(0), -1}); }

}  // namespace

MtcnnNetworks::MtcnnNetworks(const std::filesystem::path& directory)
    : pnet_(ReadWeights(directory / "pnet.pt", kPNet)),
      rnet_(ReadWeights(directory / "rnet.pt", kRNet)),
      onet_(ReadWeights(directory / "onet.pt", kONet)) {}

WindowsOutput MtcnnNetworks::Propose(const at::Tensor& images) const {
  at::Tensor x = Pool(PRelu(pnet_, "prelu1", Conv(pnet_, "conv1", images)), 2);
  x = PRelu(pnet_, "prelu2", Conv(pnet_, "conv2", x));
  x = PRelu(pnet_, "prelu3", Conv(pnet_, "conv3", x));
  return {FaceProbability(Conv(pnet_, "conv4_1", x)), Conv(pnet_, "conv4_2", x).contiguous(), {}};
}

WindowsOutput MtcnnNetworks::Refine(const at::Tensor& images) const {
  at::Tensor x = Pool(PRelu(rnet_, "prelu1", Conv(rnet_, "conv1", images)), 3);
  x = Pool(PRelu(rnet_, "prelu2", Conv(rnet_, "conv2", x)), 3);
  x = PRelu(rnet_, "prelu3", Conv(rnet_, "conv3", x));
  x = PRelu(rnet_, "prelu4", Dense(rnet_, "dense4", Flatten(x)));
  return {FaceProbability(Dense(rnet_, "dense5_1", x)), Dense(rnet_, "dense5_2", x), {}};
}

WindowsOutput MtcnnNetworks::Output(const at::Tensor& images) const {
  at::Tensor x = Pool(PRelu(onet_, "prelu1", Conv(onet_, "conv1", images)), 3);
  x = Pool(PRelu(onet_, "prelu2", Conv(onet_, "conv2", x)), 3);
  x = Pool(PRelu(onet_, "prelu3", Conv(onet_, "conv3", x)), 2);
  x = PRelu(onet_, "prelu4", Conv(onet_, "conv4", x));
  x = PRelu(onet_, "prelu5", Dense(onet_, "dense5", Flatten(x)));
  return {FaceProbability(Dense(onet_, "dense6_1", x)), Dense(onet_, "dense6_2", x),
          Dense(onet_, "dense6_3", x)};
}

}  // namespace fr
