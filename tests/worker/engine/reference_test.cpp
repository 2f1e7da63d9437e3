// The engine against other implementations: PyTorch, scikit-learn, the safetensors package. Rank 0
// alone.

#include <algorithm>
#include <random>
#include <sstream>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "tests/temporary_directory.h"
#include "tests/worker/python.h"
#include "worker/backbones/backbone.h"
#include "worker/checkpoint/safetensors.h"
#include "worker/comm/communicator.h"
#include "worker/eval/verification_metrics.h"

namespace fr {
namespace {

class ReferenceTest : public testing::Test {
 protected:
  void SetUp() override {
    if (Communicator().rank() != 0) GTEST_SKIP() << "runs on rank 0";
  }
  TemporaryDirectory directory_;
};

// Protocol of InsightFace's verification.py, in scikit-learn and NumPy.
TEST_F(ReferenceTest, VerificationAgreesWithScikitLearn) {
  std::mt19937 random(3);
  std::normal_distribution<double> noise(0, 0.35);
  std::ostringstream pairs;
  std::vector<double> distances;
  std::vector<std::uint8_t> same;
  for (int i = 0; i < 2003; ++i) {
    same.push_back(i % 3 == 0);
    distances.push_back(std::clamp((same.back() ? 1.0 : 1.7) + noise(random), 0.0, 4.0));
    pairs << fmt::format("{:.17g} {}\n", distances.back(), same.back());
  }
  WriteFileAtomically(directory_.path() / "pairs.txt", pairs.str());
  std::istringstream answer(RunPython(directory_.path(), R"(
import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold
d, same = np.loadtxt("pairs.txt").T
same = same.astype(bool)
def counts(threshold, d, same):
    accept = d < threshold
    return (accept & same).sum(), (accept & ~same).sum(), (~accept & ~same).sum()
accuracies, tars, chosen = [], [], []
coarse, fine = np.arange(0, 4, 0.01), np.arange(0, 4, 0.001)
for train, test in KFold(10, shuffle=False).split(d):
    def accuracy(t, part):
        tp, _, tn = counts(t, d[part], same[part])
        return (tp + tn) / len(part)
    best = coarse[np.argmax([accuracy(t, train) for t in coarse])]
    chosen.append(best)
    accuracies.append(accuracy(best, test))
    far = [counts(t, d[train], same[train])[1] / (~same[train]).sum() for t in fine]
    t = fine[np.max(np.nonzero(np.array(far) <= 1e-3))]
    tars.append(counts(t, d[test], same[test])[0] / same[test].sum())
print(np.mean(accuracies), np.std(accuracies), np.mean(chosen), roc_auc_score(same, -d), np.mean(tars))
)"));
  double accuracy = 0;
  double deviation = 0;
  double threshold = 0;
  double auc = 0;
  double tar = 0;
  answer >> accuracy >> deviation >> threshold >> auc >> tar;
  const VerificationMetrics metrics = EvaluatePairs(distances, same);
  EXPECT_NEAR(metrics.accuracy, accuracy, 1e-9);
  EXPECT_NEAR(metrics.accuracy_std, deviation, 1e-9);
  EXPECT_NEAR(metrics.threshold, threshold, 1e-9);
  EXPECT_NEAR(metrics.auc, auc, 1e-9);
  EXPECT_NEAR(metrics.tar_at_far_1e3, tar, 1e-9);
}

TEST_F(ReferenceTest, SafetensorsAreWhatThePackageReadsAndWrites) {
  const at::Tensor strided = torch::arange(24, torch::kFloat32).view({2, 3, 4}).permute({2, 0, 1});
  WriteSafetensors(directory_.path() / "ours.safetensors",
                   {{"a", strided},
                    {"b", torch::tensor({1, -2}, torch::kInt64)},
                    {"empty", torch::zeros({0, 5})}},
                   {{"step", "7"}});
  RunPython(directory_.path(), R"(
from safetensors import safe_open
from safetensors.torch import load_file, save_file
import torch
ours = load_file("ours.safetensors")
assert torch.equal(ours["a"], torch.arange(24.).view(2, 3, 4).permute(2, 0, 1)), ours["a"]
assert ours["b"].tolist() == [1, -2] and ours["empty"].shape == (0, 5)
assert safe_open("ours.safetensors", "pt").metadata() == {"step": "7"}
save_file({"x": torch.arange(12.).view(4, 3), "y": torch.ones(2, dtype=torch.bfloat16)},
          "theirs.safetensors")
)");
  const SafetensorsFile theirs(directory_.path() / "theirs.safetensors");
  EXPECT_TRUE(torch::equal(theirs.Read("x"), torch::arange(12, torch::kFloat32).view({4, 3})));
  EXPECT_TRUE(
      torch::equal(theirs.ReadRows("x", 1, 3), torch::arange(3, 9, torch::kFloat32).view({2, 3})));
  EXPECT_EQ(theirs.Read("y").scalar_type(), torch::kBFloat16);
  EXPECT_THROW(theirs.Read("z"), Error);
}

TEST_F(ReferenceTest, DamagedSafetensorsAreErrors) {
  const auto path = directory_.path() / "x.safetensors";
  WriteSafetensors(path, {{"a", torch::ones({3})}, {"b", torch::ones({2})}}, {});
  const std::string whole = ReadFile(path);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    WriteFileAtomically(path, whole.substr(0, size));
    EXPECT_THROW(SafetensorsFile{path}, Error) << size;
  }
  const std::string header = R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,13]}})";
  std::string lying(8, '\0');
  lying[0] = static_cast<char>(header.size());
  WriteFileAtomically(path, lying + header + std::string(13, 'x'));
  EXPECT_THROW(SafetensorsFile{path}, Error);
  WriteFileAtomically(path, std::string(8, '\xff') + "{}");
  EXPECT_THROW(SafetensorsFile{path}, Error);
}

// The networks of arcface_torch, written anew in Python with its parameter names; our weights are
// loaded by name, strictly, and the embeddings compared.
constexpr const char* kNetworks = R"(
import sys, torch
from torch import nn
from safetensors.torch import load_file

class IBasicBlock(nn.Module):
    def __init__(self, inp, out, stride, down):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inp, eps=1e-5); self.conv1 = nn.Conv2d(inp, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out, eps=1e-5); self.prelu = nn.PReLU(out)
        self.conv2 = nn.Conv2d(out, out, 3, stride, 1, bias=False); self.bn3 = nn.BatchNorm2d(out, eps=1e-5)
        self.downsample = nn.Sequential(nn.Conv2d(inp, out, 1, stride, bias=False), nn.BatchNorm2d(out, eps=1e-5)) if down else None
    def forward(self, x):
        y = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        return y + (x if self.downsample is None else self.downsample(x))

class IResNet(nn.Module):
    def __init__(self, blocks, size):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False); self.bn1 = nn.BatchNorm2d(64, eps=1e-5); self.prelu = nn.PReLU(64)
        inp = 64
        for i, (out, n) in enumerate(zip((64, 128, 256, 512), blocks), 1):
            layer = [IBasicBlock(inp, out, 2, True)] + [IBasicBlock(out, out, 1, False) for _ in range(n - 1)]
            setattr(self, f"layer{i}", nn.Sequential(*layer)); inp = out
        self.bn2 = nn.BatchNorm2d(512, eps=1e-5); self.fc = nn.Linear(512 * 49, size); self.features = nn.BatchNorm1d(size, eps=1e-5)
    def forward(self, x):
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.features(self.fc(torch.flatten(self.bn2(x), 1)))

net = IResNet({"r18": (2, 2, 2, 2), "r34": (3, 4, 6, 3)}[sys.argv[1] if len(sys.argv) > 1 else "NETWORK"], 64)
state = load_file("weights.safetensors")
missing, unexpected = net.load_state_dict(state, strict=False)
assert not unexpected, unexpected
assert all(name.endswith("num_batches_tracked") for name in missing), missing
x = load_file("x.safetensors")["x"]
want = load_file("y.safetensors")
for mode in ("eval", "train"):
    getattr(net, mode)()
    with torch.no_grad():
        y = net(x)
    error = ((y - want[mode]).norm() / y.norm()).item()
    assert error < 1e-4, (mode, error)
)";

TEST_F(ReferenceTest, IrResNetsAgreeWithPyTorchByName) {
  for (const auto& [network, name] : {std::pair{Network::r18, "r18"}, {Network::r34, "r34"}}) {
    torch::manual_seed(5);
    BackboneOptions options;
    options.network = network;
    options.embedding_size = 64;
    const std::shared_ptr<Backbone> backbone = MakeBackbone(options);
    const torch::NoGradGuard no_grad;
    NamedTensors weights;
    for (const auto& item : backbone->named_parameters())
      weights.emplace_back(item.key(), item.value());
    for (const auto& item : backbone->named_buffers())
      weights.emplace_back(item.key(), item.value().clone());
    WriteSafetensors(directory_.path() / "weights.safetensors", weights, {});
    const at::Tensor x = torch::randn({3, 3, 112, 112});
    WriteSafetensors(directory_.path() / "x.safetensors", {{"x", x}}, {});
    backbone->eval();
    const at::Tensor in_eval = backbone->forward(x);
    backbone->train();
    const at::Tensor in_train = backbone->forward(x);
    WriteSafetensors(directory_.path() / "y.safetensors", {{"eval", in_eval}, {"train", in_train}},
                     {});
    std::string program = kNetworks;
    program.replace(program.find("NETWORK"), 7, name);
    EXPECT_NO_THROW(RunPython(directory_.path(), program)) << name;
  }
}

// arcface_torch's own figures.
TEST_F(ReferenceTest, NetworksHaveTheirPublishedSizes) {
  const auto parameters = [](Network network) {
    BackboneOptions options;
    options.network = network;
    std::int64_t count = 0;
    for (const at::Tensor& p : MakeBackbone(options)->parameters()) count += p.numel();
    return static_cast<double>(count) / 1e6;
  };
  EXPECT_NEAR(parameters(Network::r18), 24.02, 0.05);
  EXPECT_NEAR(parameters(Network::r34), 34.14, 0.05);
  EXPECT_NEAR(parameters(Network::r50), 43.59, 0.05);
  EXPECT_NEAR(parameters(Network::r100), 65.15, 0.05);
  EXPECT_NEAR(parameters(Network::mbf), 2.05, 0.1);
}

}  // namespace
}  // namespace fr
