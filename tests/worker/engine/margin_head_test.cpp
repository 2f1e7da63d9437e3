#include "worker/heads/margin_head.h"

#include <cmath>
#include <functional>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/base/error.h"
#include "tests/worker/engine/device.h"
#include "worker/comm/recorder.h"

namespace fr {
namespace {

constexpr std::int64_t kSize = 16;  // of an embedding

// One step as the papers write it: all logits, autograd, double precision.
struct Naive {
  MarginHeadOptions options;
  at::Tensor weight;  // [C, K, D]
  at::Tensor bias;    // [C]
  at::Tensor first, second, bias_first, bias_second;
  double norm_mean = 20;
  double norm_deviation = 100;
  double t = 0;
  int step = 0;

  double loss = 0;
  double accuracy = 0;
  at::Tensor embedding_gradients;  // [B, D]

  Naive(const MarginHeadOptions& head, const at::Tensor& rows, std::int64_t identities)
      : options(head),
        weight(
            rows.cpu().to(torch::kFloat64).view({identities, head.shard.sub_centers, -1}).clone()),
        bias(torch::zeros({identities}, torch::kFloat64)),
        first(torch::zeros_like(weight)),
        second(torch::zeros_like(weight)),
        bias_first(torch::zeros_like(bias)),
        bias_second(torch::zeros_like(bias)) {}

  // [B, C] logits with margins; adds to `cost` what the loss has beside the cross-entropy.
  at::Tensor Logits(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b,
                    const at::Tensor& labels, at::Tensor* cost) {
    const MarginOptions& m = options.margin;
    if (m.type == MarginType::kSoftmax) return x.matmul(w.squeeze(1).t()) + b;
    const at::Tensor norm = x.norm(2, {1}, true);
    const at::Tensor centers = w.div(w.norm(2, {2}, true));
    const at::Tensor cosine = std::get<0>(
        torch::einsum("bd,ckd->bck", {x.div(norm), centers}).max(2));  // nearest sub-center
    const at::Tensor own = labels.view({-1, 1});
    const at::Tensor target = cosine.gather(1, own);
    const at::Tensor theta = target.acos();
    at::Tensor others = cosine;
    at::Tensor psi;
    switch (m.type) {
      case MarginType::kSphereFace: {
        const at::Tensor k = (m.m1 * theta / std::numbers::pi).floor().detach();
        psi = torch::where(k.remainder(2) == 0, 1.0, -1.0) * (m.m1 * theta).cos() - 2 * k;
        const double lambda = std::max(5.0, 1000 / (1 + 0.12 * step));
        psi = (lambda * target + psi) / (1 + lambda);
        break;
      }
      case MarginType::kAdaFace: {
        const at::Tensor safe = norm.clamp(0.001, 100).detach();
        norm_mean = 0.01 * safe.mean().item<double>() + 0.99 * norm_mean;
        if (safe.numel() > 1) {
          norm_deviation = 0.01 * safe.std().item<double>() + 0.99 * norm_deviation;
        }
        const at::Tensor quality =
            ((safe - norm_mean) / (norm_deviation + 1e-3) * 0.333).clamp(-1, 1);
        psi = (theta - 0.4 * quality).clamp(1e-3, std::numbers::pi - 1e-3).cos() -
              (0.4 + 0.4 * quality);
        break;
      }
      case MarginType::kCurricularFace: {
        t = 0.01 * target.mean().item<double>() + 0.99 * t;
        const at::Tensor moved = (theta + m.m2).cos();
        others = torch::where(cosine > moved, cosine * (t + cosine), cosine);
        psi = torch::where(target > std::cos(std::numbers::pi - m.m2), moved,
                           target - std::sin(std::numbers::pi - m.m2) * m.m2);
        break;
      }
      case MarginType::kMagFace: {
        const at::Tensor a = norm.clamp(10, 110);
        const at::Tensor margin = (0.8 - 0.45) / (110 - 10) * (a - 10) + 0.45;
        psi = torch::where(theta + margin <= std::numbers::pi, (theta + margin).cos(),
                           target - margin * margin.sin());
        *cost = 35 * (1 / a + a / (110 * 110)).mean();
        break;
      }
      default:
        psi = torch::where(theta + m.m2 <= std::numbers::pi, (m.m1 * theta + m.m2).cos(),
                           target - m.m2 * std::sin(m.m2)) -
              m.m3;
        if (m.easy_margin) psi = torch::where(target > 0, psi, target - m.m3);
    }
    if (m.straight_through) psi = psi.detach() + target - target.detach();
    if (m.filter_threshold > 0) {
      others = torch::where(cosine > m.filter_threshold, torch::zeros_like(cosine), cosine);
    }
    const at::Tensor scale =
        m.type == MarginType::kSphereFace ? norm : torch::full_like(norm, m.scale);
    return others.scatter(1, own, psi) * scale;
  }

  // `trust_ratio` is LARS' (arXiv:1708.03888).
  void Move(at::Tensor* w, at::Tensor* m, at::Tensor* v, const at::Tensor& g, double decay,
            double lr, double trust_ratio) const {
    const HeadShardOptions& shard = options.shard;
    if (shard.optimizer == HeadOptimizer::kSgd) {
      const at::Tensor decayed = g + decay * *w;
      *m = shard.momentum * *m + decayed;
      *w = *w - lr * (shard.nesterov ? decayed + shard.momentum * *m : *m);
      return;
    }
    if (shard.optimizer == HeadOptimizer::kLars) {
      *m = shard.momentum * *m + lr * trust_ratio * (g + decay * *w);
      *w = *w - *m;
      return;
    }
    *m = 0.9 * *m + 0.1 * g;
    *v = 0.999 * *v + 0.001 * g * g;
    const at::Tensor corrected = *m / (1 - std::pow(0.9, step + 1));
    const at::Tensor scale = (*v / (1 - std::pow(0.999, step + 1))).sqrt() + 1e-8;
    *w = *w * (1 - lr * decay) - lr * corrected / scale;
  }

  // `taking_part` [C] bool: the identities of a sampled step.
  void Step(const at::Tensor& embeddings, const at::Tensor& labels, double lr,
            const at::Tensor& taking_part) {
    const at::Tensor x = embeddings.to(torch::kFloat64).requires_grad_();
    const at::Tensor w = weight.clone().requires_grad_();
    const at::Tensor b = bias.clone().requires_grad_();
    at::Tensor cost = torch::zeros({}, torch::kFloat64);
    const at::Tensor logits = Logits(x, w, b, labels, &cost).masked_fill(~taking_part, -1e300);
    const at::Tensor total = torch::nn::functional::cross_entropy(logits, labels) + cost;
    total.backward();
    loss = total.item<double>();
    accuracy = logits.argmax(1).eq(labels).to(torch::kFloat64).mean().item<double>();
    embedding_gradients = x.grad();
    const at::NoGradGuard no_grad;
    const at::Tensor before[] = {weight, first, second};
    const at::Tensor rows = taking_part.view({-1, 1, 1});
    const double decay = options.shard.weight_decay;
    const double length = (weight * rows).norm().item<double>();
    const double trust_ratio = options.shard.trust_coefficient * length /
                               (w.grad().norm().item<double>() + decay * length);
    Move(&weight, &first, &second, w.grad(), decay, lr, trust_ratio);
    weight = torch::where(rows, weight, before[0]);
    first = torch::where(rows, first, before[1]);
    second = torch::where(rows, second, before[2]);
    if (options.margin.bias) Move(&bias, &bias_first, &bias_second, b.grad(), 0, lr, 1);
    ++step;
  }
};

double RelativeError(const at::Tensor& actual, const at::Tensor& expected) {
  if (expected.numel() == 0) return 0;
  const at::Tensor reference = expected.cpu();
  const at::Tensor difference = actual.cpu().to(torch::kFloat64) - reference.reshape_as(actual);
  return (difference.norm() / (reference.norm() + 1e-30)).item<double>();
}

struct Case {
  std::string name;
  MarginHeadOptions options;
  std::int64_t identities = 103;
  std::int64_t batch = 12;
  double norm = 12;          // of the embeddings, about: standard deviation times 4
  bool all_on_last = false;  // every rank but the last owns no identity
  bool duplicates = false;   // few labels, many times each
  bool near_one = false;     // cosines with the targets near 1 and -1
  double lr = 0.1;
  double tolerance = 3e-5;
};

Case Make(
    const std::string& name, MarginType type,
    const std::function<void(Case&)>& change = [](Case&) {}) {
  Case c;
  c.name = name;
  c.options.margin = DefaultMargin(type);
  c.options.shard.embedding_size = kSize;
  c.options.shard.tile_bytes = 1;  // the fewest rows: many tiles
  change(c);
  return c;
}

// Rows and samples of this rank.
struct Layout {
  IdentityRange range;
  std::vector<std::int64_t> rows;
  std::int64_t first = 0;

  Layout(const Case& c, int rank, int world) {
    range = {c.identities * rank / world, c.identities * (rank + 1) / world};
    if (c.all_on_last) {
      range = rank == world - 1 ? IdentityRange{0, c.identities} : IdentityRange{0, 0};
    }
    for (int r = 0; r < world; ++r) {
      rows.push_back(c.batch * (r + 1) / world - c.batch * r / world);
    }
    first = c.batch * rank / world;
  }
  at::Tensor Own(const at::Tensor& all, int rank) const {
    return all.slice(0, first, first + rows[rank]).contiguous();
  }
};

at::Tensor Row(MarginHead& head, const std::string& name) {
  for (auto& [key, tensor] : head.RowTensors()) {
    if (key == name) return tensor;
  }
  return {};
}

void CopyRows(MarginHead& from, MarginHead* to) {
  const auto source = from.RowTensors();
  auto target = to->RowTensors();
  for (std::size_t i = 0; i < source.size(); ++i) target[i].second.copy_(source[i].second);
  to->RowsWritten();
}

struct Inputs {
  at::Tensor embeddings;
  at::Tensor labels;
};

Inputs MakeInputs(const Case& c) {
  const std::int64_t labels = c.duplicates ? std::min<std::int64_t>(2, c.identities) : c.identities;
  return {torch::randn({c.batch, c.options.shard.embedding_size}) * (c.norm / 4),
          torch::randint(labels, {c.batch}, torch::kInt64)};
}

MarginHead WholeHead(const Case& c, Communicator& self) {
  return {c.options, {0, c.identities}, self};
}

void ExpectAgreement(const Case& c, const Layout& layout, int rank, const HeadStepResult& result,
                     MarginHead& head, const Naive& naive) {
  EXPECT_NEAR(result.loss, naive.loss, c.tolerance * std::max(1.0, naive.loss));
  EXPECT_LT(RelativeError(
                result.embedding_gradients,
                naive.embedding_gradients.slice(0, layout.first, layout.first + layout.rows[rank])),
            c.tolerance);
  const auto own = [&](const at::Tensor& all) {
    return all.slice(0, layout.range.begin, layout.range.end);
  };
  EXPECT_LT(RelativeError(Row(head, "weight"), own(naive.weight)), c.tolerance);
  const bool adam = c.options.shard.optimizer == HeadOptimizer::kAdamW;
  EXPECT_LT(RelativeError(Row(head, adam ? "exp_avg" : "momentum"), own(naive.first)), c.tolerance);
  if (adam) {
    EXPECT_LT(RelativeError(Row(head, "exp_avg_sq"), own(naive.second)), 3 * c.tolerance);
  }
  if (c.options.margin.bias) {
    EXPECT_LT(RelativeError(Row(head, "bias"), own(naive.bias)), c.tolerance);
  }
}

class MarginHeadCase : public testing::TestWithParam<Case> {};

// Three steps at any number of ranks are three steps of the formula: loss, gradients, rows,
// optimizer state.
TEST_P(MarginHeadCase, AgreesWithTheFormula) {
  const Case& c = GetParam();
  TestCommunicator comm;
  const Layout layout(c, comm.rank(), comm.world_size());
  MarginHead head(c.options, layout.range, comm);
  // One rank alone holds all rows: initial weights are by identity.
  TestCommunicator self(TestCommunicator::Self{});
  MarginHead whole = WholeHead(c, self);
  Naive naive(c.options, Row(whole, "weight"), c.identities);
  const at::Tensor everybody = torch::ones({c.identities}, torch::kBool);

  torch::manual_seed(7);
  for (int step = 0; step < 3; ++step) {
    Inputs in = MakeInputs(c);
    if (c.near_one) {
      const at::Tensor sign = torch::tensor({1.0, -1.0}).repeat(c.batch / 2).view({-1, 1});
      const at::Tensor centers = naive.weight.index({in.labels}).squeeze(1);
      in.embeddings = (centers / centers.norm(2, {1}, true) * sign * 20).to(torch::kFloat32) +
                      in.embeddings * 0.02;
    }
    const double lr = c.lr * (step + 1);
    naive.Step(in.embeddings, in.labels, lr, everybody);
    const HeadStepResult result = head.Step(OnDevice(layout.Own(in.embeddings, comm.rank())),
                                            layout.Own(in.labels, comm.rank()), layout.rows, lr);
    ExpectAgreement(c, layout, comm.rank(), result, head, naive);
    const at::Tensor own = (in.labels >= layout.range.begin) & (in.labels < layout.range.end);
    EXPECT_EQ(result.own_targets, own.sum().item<std::int64_t>());
    if (!c.options.shard.bf16_products) {
      EXPECT_DOUBLE_EQ(result.accuracy, naive.accuracy);
    }
  }
}

void UseLars(Case& c) {
  c.options.shard.optimizer = HeadOptimizer::kLars;
  c.options.shard.weight_decay = 0.05;
  c.options.shard.trust_coefficient = 0.2;
}

std::vector<Case> Cases() {
  using T = MarginType;
  std::vector<Case> cases{
      Make("Softmax", T::kSoftmax, [](Case& c) { c.norm = 40; }),
      Make("SoftmaxWithBias", T::kSoftmax,
           [](Case& c) { c.norm = 40, c.options.margin.bias = true; }),
      Make("NormalizedSoftmax", T::kNormalizedSoftmax),
      Make("SphereFace", T::kSphereFace),
      Make("SphereFaceSmall", T::kSphereFace, [](Case& c) { c.options.margin.m1 = 1.35; }),
      Make("CosFace", T::kCosFace),
      Make("ArcFace", T::kArcFace),
      Make("ArcFaceLargeMargin", T::kArcFace,
           [](Case& c) { c.options.margin.m2 = 1.4, c.options.margin.scale = 16; }),
      Make("ArcFaceEasyMargin", T::kArcFace, [](Case& c) { c.options.margin.easy_margin = true; }),
      Make("ArcFaceStraightThrough", T::kArcFace,
           [](Case& c) { c.options.margin.straight_through = true; }),
      Make("ArcFaceFiltered", T::kArcFace,
           [](Case& c) { c.options.margin.filter_threshold = 0.3; }),
      Make("Combined", T::kCombined),
      Make("CombinedWithFactor", T::kCombined,
           [](Case& c) { c.options.margin.m1 = 1, c.options.margin.m2 = 0.5; }),
      Make("AdaFace", T::kAdaFace, [](Case& c) { c.norm = 40; }),
      Make("CurricularFace", T::kCurricularFace),
      Make("MagFace", T::kMagFace, [](Case& c) { c.norm = 60; }),
      Make("MagFaceShortNorms", T::kMagFace, [](Case& c) { c.norm = 10; }),
      Make("SubCenters", T::kArcFace, [](Case& c) { c.options.shard.sub_centers = 3; }),
      Make("SubCentersOddTiles", T::kCosFace, [](Case& c) { c.options.shard.sub_centers = 5; }),
      Make("OneTile", T::kArcFace, [](Case& c) { c.options.shard.tile_bytes = 1 << 20; }),
      Make("OddSizes", T::kArcFace,
           [](Case& c) { c.options.shard.embedding_size = 21, c.batch = 19, c.identities = 77; }),
      Make("WideBatch", T::kArcFace,
           [](Case& c) { c.options.shard.embedding_size = 84, c.batch = 150, c.identities = 60; }),
      Make("BatchOfOne", T::kArcFace, [](Case& c) { c.batch = 1, c.identities = 31; }),
      Make("BatchOfOneAdaFace", T::kAdaFace, [](Case& c) { c.batch = 1, c.identities = 31; }),
      Make("NearOne", T::kArcFace, [](Case& c) { c.near_one = true, c.tolerance = 1e-4; }),
      Make("NearOneCosFace", T::kCosFace, [](Case& c) { c.near_one = true, c.tolerance = 1e-4; }),
      Make("NearOneCombined", T::kCombined, [](Case& c) { c.near_one = true, c.tolerance = 1e-4; }),
      Make("NearOneSphereFace", T::kSphereFace,
           [](Case& c) { c.near_one = true, c.tolerance = 1e-4; }),
      Make("OneImageEach", T::kArcFace, [](Case& c) { c.batch = 4, c.identities = 31; }),
      Make("FewIdentities", T::kArcFace, [](Case& c) { c.identities = 2, c.batch = 8; }),
      Make("EmptyRanks", T::kArcFace, [](Case& c) { c.all_on_last = true, c.identities = 40; }),
      Make("Duplicates", T::kArcFace, [](Case& c) { c.duplicates = true, c.batch = 16; }),
      Make("AdamW", T::kArcFace,
           [](Case& c) {
             c.options.shard.optimizer = HeadOptimizer::kAdamW;
             c.options.shard.weight_decay = 0.1;
             c.lr = 1e-3;
             c.tolerance = 1e-4;  // g / sqrt(g^2) of gradients near 0
           }),
      Make("Nesterov", T::kArcFace, [](Case& c) { c.options.shard.nesterov = true; }),
      Make("NesterovWithBias", T::kSoftmax,
           [](Case& c) {
             c.norm = 40, c.options.margin.bias = true, c.options.shard.nesterov = true;
           }),
      Make("Lars", T::kArcFace, UseLars),
      Make("LarsWithBias", T::kSoftmax,
           [](Case& c) {
             UseLars(c);
             c.norm = 40, c.options.margin.bias = true;
           }),
      Make("LarsSubCenters", T::kArcFace,
           [](Case& c) {
             UseLars(c);
             c.options.shard.sub_centers = 3;
           }),
      Make("LarsEmptyRanks", T::kCosFace,
           [](Case& c) {
             UseLars(c);
             c.all_on_last = true, c.identities = 40;
           }),
      Make("BFloat16", T::kArcFace,
           [](Case& c) {
             c.options.margin.scale = 16;
             c.options.shard.bf16_products = true;
             c.tolerance = 4e-2;
           }),
      Make("BFloat16SubCenters", T::kArcFace,
           [](Case& c) {
             c.options.margin.scale = 8;
             c.options.shard.bf16_products = true;
             c.options.shard.sub_centers = 3;
             c.options.shard.embedding_size = 64;
             c.tolerance = 0.1;  // near ties between sub-centers may go the other way
           }),
  };
  for (const char* kernels : {"avx512", "avx2", "portable"}) {
    if (FindHeadKernels(kernels) == nullptr) continue;
    for (const bool bf16 : {false, true}) {
      cases.push_back(Make(std::string("With_") + kernels + (bf16 ? "_BFloat16" : ""), T::kArcFace,
                           [&](Case& c) {
                             c.options.shard.kernels = FindHeadKernels(kernels);
                             c.options.shard.embedding_size = 80;
                             c.batch = 70;
                             c.options.margin.scale = bf16 ? 16 : 64;
                             c.options.shard.bf16_products = bf16;
                             c.tolerance = bf16 ? 4e-2 : 3e-5;
                           }));
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Heads, MarginHeadCase, testing::ValuesIn(Cases()),
                         [](const auto& test) { return test.param.name; });

// The gradient with respect to the embeddings against central differences of the loss, through
// what every margin does with the norm and the angle.
TEST(MarginHead, GradientIsThatOfTheLoss) {
  TestCommunicator self(TestCommunicator::Self{});
  for (const MarginType type :
       {MarginType::kSoftmax, MarginType::kSphereFace, MarginType::kCosFace, MarginType::kArcFace,
        MarginType::kCurricularFace, MarginType::kMagFace}) {
    Case c = Make("", type, [](Case& k) { k.identities = 20, k.batch = 3, k.norm = 50; });
    if (c.options.margin.normalizes_embeddings()) c.options.margin.scale = 8;
    c.options.margin.curricular_ema = 0;  // the running mean is no part of the gradient
    torch::manual_seed(3);
    const Inputs in = MakeInputs(c);
    const auto loss = [&](const at::Tensor& x, at::Tensor* gradient) {
      MarginHead head = WholeHead(c, self);
      const HeadStepResult result = head.Step(OnDevice(x), in.labels, {c.batch}, 0);
      *gradient = result.embedding_gradients.cpu();
      return result.loss;
    };
    at::Tensor gradient;
    at::Tensor unused;
    loss(in.embeddings, &gradient);
    for (int i = 0; i < 6; ++i) {
      const at::Tensor direction = torch::randn_like(in.embeddings);
      const double step = 1e-2;
      const double difference = (loss(in.embeddings + direction * step, &unused) -
                                 loss(in.embeddings - direction * step, &unused)) /
                                (2 * step);
      const double expected = (gradient * direction).sum().item<double>();
      EXPECT_NEAR(difference, expected, 2e-2 * std::abs(expected) + 2e-3) << static_cast<int>(type);
    }
  }
}

// Sampled steps are steps of the formula over the identities that take part: all of the batch, and
// of the others the same ones at any number of ranks. The rest stays, momentum included.
void ExpectSampledSteps(const std::function<void(Case&)>& change) {
  TestCommunicator comm;
  Case c = Make("", MarginType::kArcFace, change);
  c.identities = 211;
  c.options.sample_rate = 0.3;
  const Layout layout(c, comm.rank(), comm.world_size());
  MarginHead head(c.options, layout.range, comm);
  TestCommunicator self(TestCommunicator::Self{});
  MarginHead whole = WholeHead(c, self);
  Naive naive(c.options, Row(whole, "weight"), c.identities);
  torch::manual_seed(9);
  double share = 0;
  for (int step = 0; step < 4; ++step) {
    const Inputs in = MakeInputs(c);
    const at::Tensor before = Row(whole, "weight").clone();
    whole.Step(OnDevice(in.embeddings), in.labels, {c.batch}, 0.1);
    const at::Tensor moved = (Row(whole, "weight") != before).any(1).cpu();
    EXPECT_TRUE(moved.index({in.labels}).all().item<bool>());
    share += moved.to(torch::kFloat64).mean().item<double>() / 4;
    naive.Step(in.embeddings, in.labels, 0.1, moved);
    const HeadStepResult result = head.Step(OnDevice(layout.Own(in.embeddings, comm.rank())),
                                            layout.Own(in.labels, comm.rank()), layout.rows, 0.1);
    ExpectAgreement(c, layout, comm.rank(), result, head, naive);
  }
  EXPECT_NEAR(share, 0.3 + 12.0 / 211 * 0.7, 0.08);
}

TEST(MarginHead, SampledIdentitiesAloneTakePart) {
  ExpectSampledSteps([](Case&) {});
}

// LARS' norms, too, are those of the rows that take part.
TEST(MarginHead, SampledIdentitiesAloneCountForLars) { ExpectSampledSteps(UseLars); }

// Two halves of a batch, accumulated, are the whole batch; and the unfused update is the fused one.
TEST(MarginHead, AccumulatedGradientsAreThoseOfTheWholeBatch) {
  for (const HeadOptimizer optimizer :
       {HeadOptimizer::kSgd, HeadOptimizer::kAdamW, HeadOptimizer::kLars}) {
    for (const double sample_rate : {1.0, 0.4}) {
      TestCommunicator self(TestCommunicator::Self{});
      const Case c = Make("", MarginType::kArcFace, [&](Case& k) {
        k.options.shard.optimizer = optimizer;
        k.options.sample_rate = sample_rate;
      });
      MarginHead fused = WholeHead(c, self);
      MarginHead once = WholeHead(c, self);
      MarginHead twice = WholeHead(c, self);
      torch::manual_seed(5);
      for (int step = 0; step < 3; ++step) {
        const Inputs in = MakeInputs(c);
        const HeadStepResult whole = fused.Step(OnDevice(in.embeddings), in.labels, {12}, 0.01);
        once.Accumulate(OnDevice(in.embeddings), in.labels, {12}, 1);
        once.Update(0.01);
        EXPECT_TRUE(torch::equal(Row(once, "weight"), Row(fused, "weight")));
        if (sample_rate < 1) continue;  // a half has fewer positives, hence fewer identities
        double loss = 0;
        for (int half = 0; half < 2; ++half) {
          const HeadStepResult part = twice.Accumulate(
              OnDevice(in.embeddings.slice(0, half * 6, half * 6 + 6).contiguous()),
              in.labels.slice(0, half * 6, half * 6 + 6).contiguous(), {6}, 0.5);
          loss += part.loss / 2;
          EXPECT_LT(
              RelativeError(
                  part.embedding_gradients,
                  whole.embedding_gradients.slice(0, half * 6, half * 6 + 6).to(torch::kFloat64)),
              2e-4);
        }
        twice.Update(0.01);
        EXPECT_NEAR(loss, whole.loss, 1e-4 * whole.loss);
        EXPECT_LT(RelativeError(Row(twice, "weight"), Row(fused, "weight").to(torch::kFloat64)),
                  2e-4);
      }
    }
  }
}

// A step that is given up has not been: rows, biases and momentum of the next one are what they
// would have been.
TEST(MarginHead, DiscardedGradientsLeaveNothing) {
  TestCommunicator self(TestCommunicator::Self{});
  for (const HeadOptimizer optimizer : {HeadOptimizer::kSgd, HeadOptimizer::kLars}) {
    const Case c = Make("", MarginType::kSoftmax, [&](Case& k) {
      k.options.margin.bias = true;
      k.options.shard.optimizer = optimizer;
    });
    MarginHead head = WholeHead(c, self);
    MarginHead expected = WholeHead(c, self);
    torch::manual_seed(5);
    const Inputs given_up = MakeInputs(c);
    head.Accumulate(OnDevice(given_up.embeddings), given_up.labels, {c.batch}, 1);
    head.DropAccumulated();
    const Inputs in = MakeInputs(c);
    for (MarginHead* one : {&head, &expected}) {
      one->Accumulate(OnDevice(in.embeddings), in.labels, {c.batch}, 1);
      one->Update(0.1);
    }
    for (const auto& [name, tensor] : expected.RowTensors()) {
      EXPECT_TRUE(torch::equal(Row(head, name), tensor)) << name;
    }
  }
}

// What is dropped stays within the tolerance for every sample; what is kept is exact.
TEST(MarginHead, DroppedMassStaysWithinItsTolerance) {
  TestCommunicator comm;
  for (const double tolerance : {1e-6, 1e-3, 1e-1}) {
    Case c = Make("", MarginType::kArcFace, [&](Case& k) {
      k.identities = 400;
      k.options.mass_tolerance = tolerance;
    });
    const Layout layout(c, comm.rank(), comm.world_size());
    MarginHead head(c.options, layout.range, comm);
    c.options.mass_tolerance = 0;
    MarginHead exact(c.options, layout.range, comm);
    torch::manual_seed(11);
    double skipped = 0;
    for (int step = 0; step < 4; ++step) {
      const Inputs in = MakeInputs(c);
      const at::Tensor x = OnDevice(layout.Own(in.embeddings, comm.rank()));
      const at::Tensor labels = layout.Own(in.labels, comm.rank());
      CopyRows(exact, &head);
      const HeadStepResult result = head.Step(x, labels, layout.rows, 0.1);
      const HeadStepResult reference = exact.Step(x, labels, layout.rows, 0.1);
      EXPECT_LE(result.dropped_mass, tolerance + 5e-6);  // and the rounding of a float32 sum
      EXPECT_NEAR(result.loss, reference.loss, 1e-5 * reference.loss);
      EXPECT_LT(RelativeError(result.embedding_gradients,
                              reference.embedding_gradients.to(torch::kFloat64)),
                2 * tolerance + 1e-5);
      EXPECT_LT(RelativeError(Row(head, "momentum"), Row(exact, "momentum").to(torch::kFloat64)),
                2 * tolerance + 1e-5);
      skipped += result.skipped_share / 4;
    }
    // Cosines of random directions with scale 64: a few identities have nearly all probability.
    EXPECT_GT(skipped, tolerance < 1e-5 ? 0.05 : 0.2);
  }
}

// At the start of training every probability is small, and none may be taken for nothing.
TEST(MarginHead, NothingIsDroppedWhereAllCountAlike) {
  TestCommunicator self(TestCommunicator::Self{});
  const Case c = Make("", MarginType::kNormalizedSoftmax, [](Case& k) {
    k.identities = 5000;
    k.options.margin.scale = 1e-3;  // p = 1 / 5000 each
    k.options.mass_tolerance = 1e-3;
  });
  MarginHead head = WholeHead(c, self);
  torch::manual_seed(1);
  const Inputs in = MakeInputs(c);
  const HeadStepResult result = head.Step(OnDevice(in.embeddings), in.labels, {c.batch}, 0.1);
  EXPECT_LE(result.skipped_share, 1e-3);
  EXPECT_LE(result.dropped_mass, 1e-3);
}

// Weights begin the same on any number of ranks.
TEST(MarginHead, FirstWeightsAreByIdentity) {
  TestCommunicator self(TestCommunicator::Self{});
  for (const std::int64_t sub_centers : {1, 3}) {
    Case c = Make("", MarginType::kArcFace,
                  [&](Case& k) { k.options.shard.sub_centers = sub_centers, k.identities = 10; });
    MarginHead whole = WholeHead(c, self);
    MarginHead part(c.options, {3, 7}, self);
    EXPECT_TRUE(torch::equal(Row(part, "weight"), Row(whole, "weight").slice(0, 3, 7)));
    EXPECT_NEAR(Row(whole, "weight").std().item<double>(), 0.01, 0.002);
    c.options.shard.seed = 2;
    MarginHead other = WholeHead(c, self);
    EXPECT_FALSE(torch::equal(Row(other, "weight"), Row(whole, "weight")));
  }
}

// The margins' memory goes on where it was.
TEST(MarginHead, StateIsCarriedOver) {
  TestCommunicator self(TestCommunicator::Self{});
  for (const MarginType type :
       {MarginType::kAdaFace, MarginType::kCurricularFace, MarginType::kSphereFace}) {
    const Case c = Make("", type);
    MarginHead head = WholeHead(c, self);
    torch::manual_seed(2);
    const Inputs in = MakeInputs(c);
    head.Step(OnDevice(in.embeddings), in.labels, {c.batch}, 0.1);
    MarginHead next = WholeHead(c, self);
    CopyRows(head, &next);
    next.SetState(head.StateTensor());
    const HeadStepResult expected = head.Step(OnDevice(in.embeddings), in.labels, {c.batch}, 0.1);
    const HeadStepResult result = next.Step(OnDevice(in.embeddings), in.labels, {c.batch}, 0.1);
    EXPECT_NEAR(result.loss, expected.loss, 1e-5);
  }
}

// An embedding that is no number ends the step, with the sample and the rank that have it.
TEST(MarginHead, NotANumberIsNamed) {
  TestCommunicator self(TestCommunicator::Self{});
  const Case c = Make("", MarginType::kArcFace);
  MarginHead head = WholeHead(c, self);
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    at::Tensor embeddings = torch::ones({3, kSize});
    embeddings[1][2] = bad;
    const at::Tensor before = Row(head, "weight").clone();
    try {
      head.Step(OnDevice(embeddings), torch::zeros({3}, torch::kInt64), {3}, 0.1);
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
      EXPECT_NE(std::string(error.what()).find("the embedding of sample 1 of rank 0"),
                std::string::npos)
          << error.what();
    }
    EXPECT_TRUE(torch::equal(Row(head, "weight"), before));
  }
}

// A row that is no number makes the softmax none: noticed in the same step, whatever the batch.
TEST(MarginHead, ARowThatIsNoNumberIsNoticed) {
  TestCommunicator self(TestCommunicator::Self{});
  const Case c = Make("", MarginType::kArcFace);
  for (const char* kernels : {"avx512_bf16", "avx512", "avx2", "portable"}) {
    if (FindHeadKernels(kernels) == nullptr) continue;
    MarginHeadOptions options = c.options;
    options.shard.kernels = FindHeadKernels(kernels);
    MarginHead head(options, {0, c.identities}, self);
    Row(head, "weight")[77][3] = std::numeric_limits<float>::quiet_NaN();
    head.RowsWritten();
    EXPECT_THROW(
        head.Step(OnDevice(torch::randn({3, kSize})), torch::zeros({3}, torch::kInt64), {3}, 0.1),
        Error)
        << kernels;
  }
}

// Cosines at one and minus one: finite, with every margin.
TEST(MarginHead, ExtremeCosinesStayFinite) {
  TestCommunicator self(TestCommunicator::Self{});
  for (const MarginType type :
       {MarginType::kNormalizedSoftmax, MarginType::kSphereFace, MarginType::kCosFace,
        MarginType::kArcFace, MarginType::kCombined, MarginType::kAdaFace,
        MarginType::kCurricularFace, MarginType::kMagFace}) {
    Case c = Make("", type, [](Case& k) { k.identities = 4; });
    MarginHead head = WholeHead(c, self);
    const at::Tensor rows = Row(head, "weight").slice(0, 0, 2);
    const HeadStepResult result = head.Step(torch::cat({rows * 1000, rows * -1000}),
                                            torch::tensor({0, 1, 0, 1}, torch::kInt64), {4}, 0.1);
    EXPECT_TRUE(std::isfinite(result.loss));
    EXPECT_TRUE(result.embedding_gradients.isfinite().all().item<bool>());
    EXPECT_TRUE(Row(head, "weight").isfinite().all().item<bool>());
  }
}

TEST(MarginHead, OptionsThatMakeNoSenseAreRefused) {
  TestCommunicator self(TestCommunicator::Self{});
  const std::vector<std::function<void(MarginHeadOptions&)>> changes{
      [](MarginHeadOptions& o) { o.margin.scale = 0; },
      [](MarginHeadOptions& o) {
        o.margin = DefaultMargin(MarginType::kSoftmax), o.margin.scale = 64;
      },
      [](MarginHeadOptions& o) { o.margin.bias = true; },
      [](MarginHeadOptions& o) { o.sample_rate = 0; },
      [](MarginHeadOptions& o) { o.mass_tolerance = 1; },
      [](MarginHeadOptions& o) { o.shard.sub_centers = 0; }};
  for (const auto& change : changes) {
    MarginHeadOptions options;
    change(options);
    EXPECT_THROW(MarginHead(options, {0, 10}, self), Error);
  }
}

// Embeddings, norms and labels are one message: on many machines its latency counts, not its size.
TEST(MarginHead, AStepGathersOnce) {
  TestCommunicator comm;
  RecordingCommunicator recorder(comm);
  MarginHeadOptions options;
  options.shard.embedding_size = 8;
  MarginHead head(options, {2 * comm.rank(), 2 * comm.rank() + 2}, recorder);
  head.Step(OnDevice(torch::randn({3, 8})), torch::tensor({0, 1, 0}, torch::kInt64),
            std::vector<std::int64_t>(static_cast<std::size_t>(comm.world_size()), 3), 0.1);
  for (const CollectiveTotals& totals : recorder.Totals()) {
    if (totals.name != "all_gather_rows") continue;
    EXPECT_EQ(totals.calls, 1);
    EXPECT_EQ(totals.bytes, 3 * (8 * 4 + 4 + 8));  // of each sample: x, norm, label
  }
}

}  // namespace
}  // namespace fr
