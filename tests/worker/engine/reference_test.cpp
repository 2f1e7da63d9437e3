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
#include "common/base/temporary_directory.h"
#include "tests/python.h"
#include "worker/checkpoint/safetensors.h"
#include "worker/comm/mpi_communicator.h"
#include "worker/eval/verification_metrics.h"

namespace fr {
namespace {

class ReferenceTest : public testing::Test {
 protected:
  void SetUp() override {
    if (MpiCommunicator().rank() != 0) GTEST_SKIP() << "runs on rank 0";
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
  for (const char* lie :
       {R"("shape":[3],"data_offsets":[0,13])", R"("shape":[1e72],"data_offsets":[0,13])",
        R"("shape":[3],"data_offsets":[0,1e72])",
        R"("shape":[3],"data_offsets":[9,-9223372036854775808])"}) {
    const std::string header = fmt::format(R"({{"a":{{"dtype":"F32",{}}}}})", lie);
    std::string file(8, '\0');
    file[0] = static_cast<char>(header.size());
    WriteFileAtomically(path, file + header + std::string(13, 'x'));
    EXPECT_THROW(SafetensorsFile{path}, Error) << lie;
  }
  WriteFileAtomically(path, std::string(8, '\xff') + "{}");
  EXPECT_THROW(SafetensorsFile{path}, Error);
}

}  // namespace
}  // namespace fr
