#include "worker/heads/triplet_head.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/random.h"
#include "tests/worker/engine/device.h"
#include "worker/heads/finite.h"

namespace fr {
namespace {

constexpr std::int64_t kSize = 16;  // of an embedding

// The loss as the papers write it: three loops, double precision, autograd through the distances
// and the normalisation.
struct Naive {
  double loss = 0;
  double accuracy = 0;
  std::int64_t active = 0;
  double active_share = 0;
  at::Tensor gradients;  // [B, D] float64
};

struct Triplet {
  std::int64_t a, p, n;
};

// Those that `options` choose; `candidates` counts what they are chosen from.
std::vector<Triplet> Choose(const TripletHeadOptions& options, int step, const at::Tensor& d,
                            const std::vector<std::int64_t>& label, std::int64_t* candidates) {
  const auto batch = static_cast<std::int64_t>(label.size());
  const auto at = d.accessor<double, 2>();
  std::vector<Triplet> chosen;
  for (std::int64_t a = 0; a < batch; ++a) {
    Triplet hard{a, -1, -1};
    for (std::int64_t p = 0; p < batch; ++p) {
      if (p == a || label[p] != label[a]) continue;
      if (hard.p < 0 || at[a][p] > at[a][hard.p]) hard.p = p;
      Triplet drawn{a, p, -1};
      std::uint64_t lowest = 0;
      for (std::int64_t n = 0; n < batch; ++n) {
        if (label[n] == label[a]) continue;
        if (hard.n < 0 || at[a][n] < at[a][hard.n]) hard.n = n;
        if (options.mining == TripletMining::kAll) {
          ++*candidates;
          if (at[a][p] - at[a][n] + options.margin > 0) chosen.push_back({a, p, n});
        }
        const std::uint64_t number = MixKeys(MixKeys(MixKeys(options.seed, step), a, p), n);
        if (at[a][p] < at[a][n] && at[a][n] < at[a][p] + options.margin &&
            (drawn.n < 0 || number < lowest)) {
          drawn.n = n;
          lowest = number;
        }
      }
      if (options.mining != TripletMining::kSemiHard) continue;
      ++*candidates;
      if (drawn.n >= 0) chosen.push_back(drawn);
    }
    if (options.mining != TripletMining::kHard || hard.p < 0 || hard.n < 0) continue;
    ++*candidates;
    chosen.push_back(hard);
  }
  return chosen;
}

double RankOne(const at::Tensor& d, const std::vector<std::int64_t>& label) {
  const auto batch = static_cast<std::int64_t>(label.size());
  double asked = 0;
  double right = 0;
  for (std::int64_t a = 0; a < batch; ++a) {
    if (std::count(label.begin(), label.end(), label[a]) < 2) continue;
    at::Tensor others = d[a].clone();
    others[a] = std::numeric_limits<double>::infinity();
    ++asked;
    right += label[others.argmin().item<std::int64_t>()] == label[a] ? 1 : 0;
  }
  return asked > 0 ? right / asked : 0;
}

Naive Formula(const TripletHeadOptions& options, int step, const at::Tensor& embeddings,
              const at::Tensor& labels) {
  const at::Tensor x = embeddings.to(torch::kFloat64).requires_grad_();
  const at::Tensor unit = x / x.norm(2, {1}, true);
  const at::Tensor d = (unit.unsqueeze(0) - unit.unsqueeze(1)).square().sum(2);
  const std::vector<std::int64_t> label(labels.const_data_ptr<std::int64_t>(),
                                        labels.const_data_ptr<std::int64_t>() + labels.numel());
  Naive naive;
  std::int64_t candidates = 0;
  std::vector<Triplet> chosen = Choose(options, step, d.detach(), label, &candidates);
  const auto count = static_cast<std::int64_t>(chosen.size());
  const at::Tensor places = torch::from_blob(chosen.data(), {count, 3}, torch::kInt64).t();
  const at::Tensor cost =
      (d.index({places[0], places[1]}) - d.index({places[0], places[2]}) + options.margin)
          .clamp_min(0);
  naive.active = cost.gt(0).sum().item<std::int64_t>();
  const at::Tensor loss = cost.sum() / std::max<double>(1, static_cast<double>(count));
  loss.backward();
  naive.loss = loss.item<double>();
  naive.gradients = x.grad();
  naive.accuracy = RankOne(d.detach(), label);
  naive.active_share =
      candidates == 0 ? 0 : static_cast<double>(naive.active) / static_cast<double>(candidates);
  return naive;
}

struct Case {
  std::string name;
  TripletMining mining;
  std::vector<std::int64_t> labels;
  double noise = 1;  // around the identity's centre, whose values have deviation 1
  double margin = 0.2;
  bool twice = false;  // the second half of the batch is the first half again
};

std::vector<std::int64_t> Groups(std::int64_t identities, std::int64_t images) {
  std::vector<std::int64_t> labels;
  for (std::int64_t i = 0; i < identities * images; ++i) labels.push_back(i / images);
  return labels;
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const auto& [name, mining] : {std::pair{"SemiHard", TripletMining::kSemiHard},
                                     {"Hard", TripletMining::kHard},
                                     {"All", TripletMining::kAll}}) {
    const std::string mined = name;
    cases.push_back({mined + "OfGroups", mining, Groups(5, 4)});
    cases.push_back({mined + "OfNearlyTrained", mining, Groups(5, 4), 0.3, 1.5});
    cases.push_back({mined + "OfScatteredLabels",
                     mining,
                     {7, 3, 3, 9, 7, 1, 3, 7, 9, 2, 9, 3, 5, 7, 7, 3, 9, 1, 3}});
    // More anchors on a rank than have their distances at a time.
    cases.push_back({mined + "OfManyAnchors", mining, Groups(30, 5)});
    cases.push_back({mined + "OfOneIdentity", mining, Groups(1, 9)});
    cases.push_back({mined + "OfDifferentIdentities", mining, Groups(9, 1)});
    cases.push_back({mined + "OfRepeatedImages", mining, Groups(4, 4), 1, 0.5, true});
    cases.push_back({mined + "OfTwoImages", mining, Groups(1, 2)});
    cases.push_back({mined + "WithoutMargin", mining, Groups(5, 4), 1, 0});
  }
  return cases;
}

struct Inputs {
  at::Tensor embeddings;  // [B, kSize]
  at::Tensor labels;      // [B]
};

Inputs MakeInputs(const Case& c) {
  Inputs in;
  in.labels = torch::tensor(c.labels, torch::kInt64);
  const at::Tensor centers = torch::randn({10 + in.labels.max().item<std::int64_t>(), kSize});
  in.embeddings = centers.index({in.labels}) + torch::randn({in.labels.numel(), kSize}) * c.noise;
  in.embeddings *= torch::rand({in.labels.numel(), 1}) * 20 + 1;  // norms are not to matter
  if (c.twice) {
    const std::int64_t half = in.labels.numel() / 2;
    in.embeddings = in.embeddings.slice(0, 0, half).repeat({2, 1}).contiguous();
    in.labels = in.labels.slice(0, 0, half).repeat({2}).contiguous();
  }
  return in;
}

// Uneven: rank r of n has 1 + r parts of 1 + 2 + .. + n; of few images the first ranks have none.
struct Layout {
  std::vector<std::int64_t> rows;
  std::int64_t first = 0;

  Layout(std::int64_t batch, int rank, int world) {
    const std::int64_t parts = std::int64_t{world} * (world + 1) / 2;
    std::int64_t begin = 0;
    for (std::int64_t r = 0; r < world; ++r) {
      const std::int64_t end = batch * ((r + 1) * (r + 2) / 2) / parts;
      if (r == rank) first = begin;
      rows.push_back(end - begin);
      begin = end;
    }
  }
  at::Tensor Own(const at::Tensor& all, int rank) const {
    return all.slice(0, first, first + rows[rank]).contiguous();
  }
};

class TripletHeadCase : public testing::TestWithParam<Case> {};

// At any number of ranks, every step's loss and gradients are the formula's, over the triplets that
// the definition chooses in the whole batch.
TEST_P(TripletHeadCase, AgreesWithTheFormula) {
  const Case& c = GetParam();
  TestCommunicator comm;
  TripletHeadOptions options;
  options.mining = c.mining;
  options.margin = c.margin;
  options.seed = 5;
  TripletHead head(options, comm);
  torch::manual_seed(11);
  for (int step = 0; step < 3; ++step) {
    const Inputs in = MakeInputs(c);
    const Layout layout(in.labels.numel(), comm.rank(), comm.world_size());
    const Naive naive = Formula(options, step, in.embeddings, in.labels);
    const HeadStepResult result = head.Step(OnDevice(layout.Own(in.embeddings, comm.rank())),
                                            layout.Own(in.labels, comm.rank()), layout.rows, 1e9);
    EXPECT_NEAR(result.loss, naive.loss, 1e-6);
    EXPECT_DOUBLE_EQ(result.accuracy, naive.accuracy);
    EXPECT_EQ(result.active_triplets, naive.active);
    EXPECT_DOUBLE_EQ(result.active_share, naive.active_share);
    const at::Tensor expected = layout.Own(naive.gradients, comm.rank());
    const double difference =
        (result.embedding_gradients.cpu().to(torch::kFloat64) - expected).norm().item<double>();
    EXPECT_LT(difference, 1e-5 * naive.gradients.norm().item<double>() + 1e-30);
  }
}

INSTANTIATE_TEST_SUITE_P(Heads, TripletHeadCase, testing::ValuesIn(Cases()),
                         [](const auto& one) { return one.param.name; });

// The cases are what their names say: there is something to learn, or nothing.
TEST(TripletHead, BatchesWithoutTripletsCostNothing) {
  TestCommunicator self(TestCommunicator::Self{});
  torch::manual_seed(11);
  for (const Case& c : Cases()) {
    TripletHeadOptions options;
    options.mining = c.mining;
    options.margin = c.margin;
    TripletHead head(options, self);
    const Inputs in = MakeInputs(c);
    const HeadStepResult result =
        head.Step(OnDevice(in.embeddings), in.labels, {in.labels.numel()}, 0.1);
    const bool none = (c.name == "SemiHardWithoutMargin") || c.name.ends_with("OfOneIdentity") ||
                      c.name.ends_with("OfTwoImages") || c.name.ends_with("OfDifferentIdentities");
    EXPECT_EQ(result.active_triplets == 0, none) << c.name;
    EXPECT_EQ(result.loss == 0, none) << c.name;
    EXPECT_EQ(result.embedding_gradients.abs().max().item<double>() == 0, none) << c.name;
  }
}

// A step against its gradient costs less: sign and size are those of the loss.
TEST(TripletHead, GradientIsThatOfTheLoss) {
  TestCommunicator self(TestCommunicator::Self{});
  torch::manual_seed(3);
  const Inputs in = MakeInputs({"", TripletMining::kAll, Groups(6, 3)});
  TripletHeadOptions options;
  options.mining = TripletMining::kHard;
  const std::vector<std::int64_t> rows{in.labels.numel()};
  TripletHead head(options, self);
  const at::Tensor x = OnDevice(in.embeddings);
  const HeadStepResult before = head.Step(x, in.labels, rows, 0);
  const double square = before.embedding_gradients.square().sum().item<double>();
  const double rate = 1e-3 / square;
  const HeadStepResult after = head.Step(x - rate * before.embedding_gradients, in.labels, rows, 0);
  EXPECT_NEAR(before.loss - after.loss, rate * square, 0.05 * rate * square);
}

// Accumulate weighs the gradients alone, and Update counts the step: the next draw is another one.
TEST(TripletHead, AStepInTwoPartsIsAStep) {
  TestCommunicator self(TestCommunicator::Self{});
  torch::manual_seed(4);
  const Inputs in = MakeInputs({"", TripletMining::kSemiHard, Groups(6, 4)});
  const std::vector<std::int64_t> rows{in.labels.numel()};
  TripletHead fused({}, self);
  TripletHead parts({}, self);
  for (int step = 0; step < 2; ++step) {
    const HeadStepResult whole = fused.Step(OnDevice(in.embeddings), in.labels, rows, 0.1);
    const HeadStepResult part = parts.Accumulate(OnDevice(in.embeddings), in.labels, rows, 0.5);
    parts.Update(0.1);
    EXPECT_EQ(part.loss, whole.loss);
    EXPECT_TRUE(at::equal(part.embedding_gradients * 2, whole.embedding_gradients));
  }
}

// Whoever continues draws what the run that was not stopped draws, and no rows are left behind.
TEST(TripletHead, StateIsTheStep) {
  TestCommunicator self(TestCommunicator::Self{});
  torch::manual_seed(5);
  const Inputs in = MakeInputs({"", TripletMining::kSemiHard, Groups(6, 4)});
  const std::vector<std::int64_t> rows{in.labels.numel()};
  TripletHead head({}, self);
  const double first = head.Step(OnDevice(in.embeddings), in.labels, rows, 0.1).loss;
  TripletHead next({}, self);
  next.SetState(head.StateTensor());
  EXPECT_EQ(head.range().size(), 0);
  EXPECT_TRUE(head.RowTensors().empty());
  const double second = head.Step(OnDevice(in.embeddings), in.labels, rows, 0.1).loss;
  EXPECT_NE(second, first);
  EXPECT_EQ(next.Step(OnDevice(in.embeddings), in.labels, rows, 0.1).loss, second);
}

// What is no number is named, on every rank alike, by the rank and the sample that have it. The
// next step is as if nothing had been.
TEST(TripletHead, NotANumberIsNamed) {
  TestCommunicator comm;
  torch::manual_seed(6);
  const Inputs in = MakeInputs({"", TripletMining::kSemiHard, Groups(6, 4)});
  const Layout layout(in.labels.numel(), comm.rank(), comm.world_size());
  const int last = comm.world_size() - 1;
  const at::Tensor labels = layout.Own(in.labels, comm.rank());
  TripletHead head({}, comm);
  TripletHead untouched({}, comm);
  for (const float broken :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 1e30F}) {
    at::Tensor own = layout.Own(in.embeddings, comm.rank()).clone();
    if (comm.rank() == last) own[4][2] = broken;
    try {
      head.Step(OnDevice(own), labels, layout.rows, 0.1);
      FAIL() << broken;
    } catch (const NonFiniteError& error) {
      const std::string text = error.what();
      EXPECT_NE(text.find("sample 4 of rank " + std::to_string(last)), std::string::npos) << text;
    }
  }
  const at::Tensor own = layout.Own(in.embeddings, comm.rank());
  EXPECT_EQ(head.Step(OnDevice(own), labels, layout.rows, 0.1).loss,
            untouched.Step(OnDevice(own), labels, layout.rows, 0.1).loss);
}

// An embedding without a direction costs no gradient that is none.
TEST(TripletHead, AnEmbeddingOfZerosIsFinite) {
  TestCommunicator self(TestCommunicator::Self{});
  torch::manual_seed(6);
  const Inputs in = MakeInputs({"", TripletMining::kSemiHard, Groups(3, 2)});
  TripletHead head({}, self);
  in.embeddings[4].zero_();
  const HeadStepResult result = head.Step(OnDevice(in.embeddings), in.labels, {6}, 0.1);
  EXPECT_TRUE(std::isfinite(result.loss));
  EXPECT_TRUE(at::isfinite(result.embedding_gradients).all().item<bool>());
}

TEST(TripletHead, AMarginBeyondAllDistancesIsRefused) {
  TestCommunicator self(TestCommunicator::Self{});
  for (const double margin : {-0.1, 4.1, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_THROW(TripletHead({TripletMining::kHard, margin}, self), Error);
  }
}

}  // namespace
}  // namespace fr
