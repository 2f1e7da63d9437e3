#include "worker/heads/margin_head.h"

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "common/base/error.h"
#include "worker/comm/communicator.h"

namespace fr {
namespace {

constexpr std::int64_t kSize = 16;  // of an embedding

struct Naive {
  at::Tensor weight;    // [C, D] float64
  at::Tensor momentum;  // [C, D] float64
  double loss = 0;
  double accuracy = 0;
  at::Tensor embedding_gradients;  // [B, D] float64
};

// One step as the paper writes it: all logits, autograd, double precision.
void NaiveStep(const MarginHeadOptions& options, const at::Tensor& embeddings,
               const at::Tensor& labels, double lr, Naive* state) {
  const at::Tensor x = embeddings.to(torch::kFloat64).requires_grad_();
  const at::Tensor w = state->weight.clone().requires_grad_();
  const at::Tensor cosine = x.div(x.norm(2, {1}, true)).matmul(w.div(w.norm(2, {1}, true)).t());
  const at::Tensor target = cosine.gather(1, labels.view({-1, 1}));
  const at::Tensor theta = target.acos();
  const at::Tensor psi =
      torch::where(theta + options.margin <= M_PI, (theta + options.margin).cos(),
                   target - options.margin * std::sin(options.margin));
  const at::Tensor logits = cosine.scatter(1, labels.view({-1, 1}), psi) * options.scale;
  const at::Tensor loss = torch::nn::functional::cross_entropy(logits, labels);
  loss.backward();
  state->loss = loss.item<double>();
  state->accuracy = logits.argmax(1).eq(labels).to(torch::kFloat64).mean().item<double>();
  state->embedding_gradients = x.grad();
  const at::Tensor g = w.grad() + options.weight_decay * state->weight;
  state->momentum = options.momentum * state->momentum + g;
  state->weight = state->weight - lr * state->momentum;
}

double RelativeError(const at::Tensor& actual, const at::Tensor& expected) {
  if (expected.numel() == 0) return 0;
  return ((actual.to(torch::kFloat64) - expected).norm() / (expected.norm() + 1e-30))
      .item<double>();
}

// The identities over the ranks: as given by shares, the last rank takes the rest.
IdentityRange RangeOf(std::int64_t identities, int rank, int world, bool all_on_last) {
  if (all_on_last) return rank == world - 1 ? IdentityRange{0, identities} : IdentityRange{0, 0};
  return {identities * rank / world, identities * (rank + 1) / world};
}

struct Case {
  const char* name;
  std::int64_t identities;
  std::int64_t batch;
  double scale;
  double margin;
  std::int64_t tile_rows;
  bool all_on_last = false;  // every rank but the last owns no identity
  bool duplicates = false;   // few labels, many times each
};

class MarginHeadCase : public testing::TestWithParam<Case> {};

// Three steps at any number of ranks are three steps of the formula: loss, gradients, weights,
// momentum.
TEST_P(MarginHeadCase, AgreesWithTheFormula) {
  const Case& c = GetParam();
  Communicator comm;
  const int world = comm.world_size();
  MarginHeadOptions options;
  options.embedding_size = kSize;
  options.scale = c.scale;
  options.margin = c.margin;
  options.tile_rows = c.tile_rows;
  const IdentityRange range = RangeOf(c.identities, comm.rank(), world, c.all_on_last);
  MarginHead head(options, range, comm);
  std::vector<std::int64_t> rows;
  for (int rank = 0; rank < world; ++rank) {
    rows.push_back(c.batch * (rank + 1) / world - c.batch * rank / world);
  }
  const std::int64_t first = c.batch * comm.rank() / world;
  const std::int64_t own = rows[comm.rank()];

  // One rank alone holds all rows: initial weights are by identity.
  Communicator self(Communicator::Self{});
  MarginHead whole(options, {0, c.identities}, self);
  Naive naive{whole.weight().to(torch::kFloat64),
              torch::zeros({c.identities, kSize}, torch::kFloat64),
              0,
              0,
              {}};

  torch::manual_seed(7);
  for (int step = 0; step < 3; ++step) {
    const at::Tensor embeddings = torch::randn({c.batch, kSize}) * 3;
    const at::Tensor labels =
        torch::randint(c.duplicates ? std::min<std::int64_t>(2, c.identities) : c.identities,
                       {c.batch}, torch::kInt64);
    const double lr = 0.1 * (step + 1);
    NaiveStep(options, embeddings, labels, lr, &naive);
    const HeadStepResult result =
        head.Step(embeddings.slice(0, first, first + own).contiguous(),
                  labels.slice(0, first, first + own).contiguous(), rows, lr);
    EXPECT_NEAR(result.loss, naive.loss, 1e-5 * std::max(1.0, naive.loss));
    EXPECT_DOUBLE_EQ(result.accuracy, naive.accuracy);
    EXPECT_LT(RelativeError(result.embedding_gradients,
                            naive.embedding_gradients.slice(0, first, first + own)),
              2e-5);
    EXPECT_LT(RelativeError(head.weight(), naive.weight.slice(0, range.begin, range.end)), 2e-5);
    EXPECT_LT(RelativeError(head.momentum(), naive.momentum.slice(0, range.begin, range.end)),
              2e-5);
  }
}

INSTANTIATE_TEST_SUITE_P(Heads, MarginHeadCase,
                         testing::Values(Case{"Plain", 103, 12, 64, 0.5, 8192},
                                         Case{"ManyTiles", 103, 12, 64, 0.5, 8},
                                         Case{"NoMargin", 50, 12, 30, 0, 16},
                                         Case{"LargeMargin", 50, 12, 16, 1.4, 16},
                                         Case{"OneImageEach", 31, 4, 64, 0.5, 8},
                                         Case{"FewIdentities", 2, 8, 16, 0.3, 8},
                                         Case{"EmptyRanks", 40, 8, 32, 0.5, 8, true},
                                         Case{"Duplicates", 60, 16, 64, 0.5, 8, false, true}),
                         [](const auto& test) { return std::string(test.param.name); });

// Weights begin the same on any number of ranks.
TEST(MarginHead, FirstWeightsAreByIdentity) {
  Communicator self(Communicator::Self{});
  MarginHeadOptions options;
  options.embedding_size = kSize;
  MarginHead whole(options, {0, 10}, self);
  MarginHead part(options, {3, 7}, self);
  EXPECT_TRUE(torch::equal(part.weight(), whole.weight().slice(0, 3, 7)));
  EXPECT_NEAR(whole.weight().std().item<double>(), 0.01, 0.002);
  options.seed = 2;
  MarginHead other(options, {0, 10}, self);
  EXPECT_FALSE(torch::equal(other.weight(), whole.weight()));
}

// An embedding that is no number ends the step, with the rank and row that have it.
TEST(MarginHead, NotANumberIsNamed) {
  Communicator self(Communicator::Self{});
  MarginHeadOptions options;
  options.embedding_size = kSize;
  MarginHead head(options, {0, 10}, self);
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    at::Tensor embeddings = torch::ones({3, kSize});
    embeddings[1][2] = bad;
    const at::Tensor before = head.weight().clone();
    try {
      head.Step(embeddings, torch::zeros({3}, torch::kInt64), {3}, 0.1);
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
      EXPECT_NE(std::string(error.what()).find("1"), std::string::npos);
    }
    EXPECT_TRUE(torch::equal(head.weight(), before));
  }
}

// Cosines near one and minus one: finite, and the loss of the formula.
TEST(MarginHead, ExtremeCosinesStayFinite) {
  Communicator self(Communicator::Self{});
  MarginHeadOptions options;
  options.embedding_size = kSize;
  MarginHead head(options, {0, 4}, self);
  const at::Tensor embeddings =
      torch::cat({head.weight().slice(0, 0, 2) * 100, head.weight().slice(0, 0, 2) * -100});
  const HeadStepResult result =
      head.Step(embeddings, torch::tensor({0, 1, 0, 1}, torch::kInt64), {4}, 0.1);
  EXPECT_TRUE(std::isfinite(result.loss));
  EXPECT_TRUE(result.embedding_gradients.isfinite().all().item<bool>());
  EXPECT_TRUE(head.weight().isfinite().all().item<bool>());
}

}  // namespace
}  // namespace fr
