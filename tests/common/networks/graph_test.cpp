// What GraphBuilder infers, and what it refuses.

#include "common/networks/graph.h"

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/networks/costs.h"

namespace fr {
namespace {

using Shape = std::vector<std::int64_t>;
using ::testing::HasSubstr;

// The message of the error that `act` throws.
std::string Refusal(ErrorCode code, const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    return error.what();
  }
  return "nothing was thrown";
}

std::string Refusal(const std::function<void()>& act) {
  return Refusal(ErrorCode::kInvalidArgument, act);
}

TEST(GraphBuilder, InfersTheShapesOfConvolutions) {
  GraphBuilder b;
  EXPECT_EQ(b.shape(b.input()), (Shape{3, 112, 112}));
  const int same = b.Conv("same", b.input(), {.out = 8, .kernel = {3, 3}, .padding = {1, 1}});
  EXPECT_EQ(b.shape(same), (Shape{8, 112, 112}));
  const int half =
      b.Conv("half", same, {.out = 16, .kernel = {3, 3}, .stride = 2, .padding = {1, 1}});
  EXPECT_EQ(b.shape(half), (Shape{16, 56, 56}));
  const int row = b.Conv("row", half, {.out = 4, .kernel = {1, 7}, .padding = {0, 3}, .groups = 4});
  EXPECT_EQ(b.shape(row), (Shape{4, 56, 56}));
  const int patches = b.Conv("patches", b.input(), {.out = 5, .kernel = {9, 9}, .stride = 9});
  EXPECT_EQ(b.shape(patches), (Shape{5, 12, 12}));
}

// As torch: a window that begins behind the last value, in the padding, does not count.
TEST(GraphBuilder, InfersTheShapesOfPools) {
  GraphBuilder b({1, 6, 5});
  const int floor = b.MaxPool("floor", b.input(), {.kernel = 3, .stride = 2});
  EXPECT_EQ(b.shape(floor), (Shape{1, 2, 2}));
  const int ceil = b.MaxPool("ceil", b.input(), {.kernel = 3, .stride = 2, .ceil_mode = true});
  EXPECT_EQ(b.shape(ceil), (Shape{1, 3, 2}));
  const int padded = b.AveragePool("padded", b.input(),
                                   {.kernel = 2, .stride = 2, .padding = 1, .ceil_mode = true});
  EXPECT_EQ(b.shape(padded), (Shape{1, 4, 3}));
}

TEST(GraphBuilder, InfersTheShapesOfTheRest) {
  GraphBuilder b({6, 4, 4});
  const int x = b.input();
  EXPECT_EQ(b.shape(b.Slice("slice", x, 2, 5)), (Shape{3, 4, 4}));
  EXPECT_EQ(b.shape(b.Concat("concat", {x, x, b.Slice("part", x, 0, 1)})), (Shape{13, 4, 4}));
  const int gate = b.Sigmoid("gate", b.GlobalAveragePool("pool", x));
  EXPECT_EQ(b.shape(gate), (Shape{6, 1, 1}));
  EXPECT_EQ(b.shape(b.Multiply("scale", x, gate)), (Shape{6, 4, 4}));
  const int tokens = b.Tokens("tokens", x);
  EXPECT_EQ(b.shape(tokens), (Shape{16, 6}));
  const int qkv = b.Linear("qkv", tokens, 36, false);
  EXPECT_EQ(b.shape(qkv), (Shape{16, 36}));
  EXPECT_EQ(b.shape(b.Attention("attention", qkv, 4)), (Shape{16, 12}));
  EXPECT_EQ(b.shape(b.Flatten("tokens_flat", tokens)), (Shape{96}));
  EXPECT_EQ(b.shape(b.Flatten("flat", x)), (Shape{96}));
}

TEST(GraphBuilder, GivesParametersTorchsNamesAndShapes) {
  GraphBuilder b({8, 4, 4});
  int x = b.Conv("conv", b.input(), {.out = 6, .kernel = {3, 1}, .groups = 2, .bias = true});
  x = b.PRelu("prelu", b.BatchNorm("bn", x, /*fixed_weight=*/true));
  b.Linear("fc", b.Flatten("flatten", x), 5, true);
  const Graph graph = b.Finish();
  std::vector<std::pair<std::string, Shape>> found;
  for (const Parameter& p : graph.Parameters()) found.emplace_back(p.name, p.shape);
  EXPECT_THAT(found,
              ::testing::ElementsAre(
                  std::pair("conv.weight", Shape{6, 4, 3, 1}), std::pair("conv.bias", Shape{6}),
                  std::pair("bn.weight", Shape{6}), std::pair("bn.bias", Shape{6}),
                  std::pair("bn.running_mean", Shape{6}), std::pair("bn.running_var", Shape{6}),
                  std::pair("bn.num_batches_tracked", Shape{}), std::pair("prelu.weight", Shape{6}),
                  std::pair("fc.weight", Shape{5, 48}), std::pair("fc.bias", Shape{5})));
  EXPECT_EQ(graph.node(2).parameters[0].role, Parameter::Role::kFixed);
  EXPECT_EQ(graph.embedding_size(), 5);
}

TEST(GraphBuilder, ResolvesFirstWeights) {
  const auto first = [](WeightInit init) {
    GraphBuilder b({8, 4, 4});
    b.set_conv_init(init);
    b.Conv("conv", b.input(), {.out = 6, .kernel = {3, 3}, .groups = 2, .bias = true});
    b.Flatten("flatten", 1);
    return b.Finish().node(1).parameters;
  };
  using Kind = WeightInit::Kind;
  // Fan in 4 * 9, fan out 6 * 9.
  EXPECT_EQ(first({Kind::kTorch})[0].init.kind, Init::Kind::kUniform);
  EXPECT_DOUBLE_EQ(first({Kind::kTorch})[0].init.value, 1 / 6.0);
  EXPECT_DOUBLE_EQ(first({Kind::kTorch})[1].init.value, 1 / 6.0);
  EXPECT_EQ(first({Kind::kNormal, 0.1})[0].init.kind, Init::Kind::kNormal);
  EXPECT_DOUBLE_EQ(first({Kind::kNormal, 0.1})[0].init.value, 0.1);
  EXPECT_DOUBLE_EQ(first({Kind::kKaimingFanOut})[0].init.value, std::sqrt(2 / 54.0));
  EXPECT_EQ(first({Kind::kKaimingFanIn})[0].init.kind, Init::Kind::kNormal);
  EXPECT_DOUBLE_EQ(first({Kind::kKaimingFanIn})[0].init.value, std::sqrt(2 / 36.0));
  EXPECT_EQ(first({Kind::kUniformFanIn, 2})[0].init.kind, Init::Kind::kUniform);
  EXPECT_DOUBLE_EQ(first({Kind::kUniformFanIn, 2})[0].init.value, std::sqrt(2 / 36.0));
  EXPECT_EQ(first({Kind::kUniformFanIn, 2})[1].init.value, 0);
}

TEST(GraphBuilder, LeavesOutWhatDropsNothing) {
  GraphBuilder b({4, 2, 2});
  EXPECT_EQ(b.Dropout("dropout", b.input(), 0), b.input());
  EXPECT_EQ(b.DropPath("drop_path", b.input(), 0), b.input());
  EXPECT_NE(b.Dropout("dropout", b.input(), 0.4), b.input());
}

TEST(GraphBuilder, RefusesWhatDoesNotFit) {
  GraphBuilder b({6, 4, 4});
  const int x = b.input();
  const int vector = b.Flatten("vector", x);
  const int tokens = b.Tokens("tokens", x);
  const int small = b.MaxPool("small", x, {.kernel = 2, .stride = 2});

  EXPECT_THAT(
      Refusal([&] { b.Conv("node.a", x, {.out = 8, .groups = 4}); }),
      AllOf(HasSubstr("'node.a'"), HasSubstr("6 channels in and 8 out"), HasSubstr("4 groups")));
  EXPECT_THAT(Refusal([&] { b.Conv("c", x, {.out = 8, .kernel = {5, 5}}); }), HasSubstr("empty"));
  EXPECT_THAT(Refusal([&] { b.Conv("c", x, {.out = 0}); }), HasSubstr("empty"));
  EXPECT_THAT(Refusal([&] { b.Conv("c", x, {.out = 8, .stride = 0}); }), HasSubstr("stride"));
  EXPECT_THAT(Refusal([&] { b.Conv("c", vector, {.out = 8}); }), HasSubstr("[96]"));
  EXPECT_THAT(Refusal([&] { b.MaxPool("p", x, {.kernel = 9}); }), HasSubstr("empty"));
  EXPECT_THAT(Refusal([&] { b.MaxPool("p", tokens, {}); }), HasSubstr("feature map"));
  EXPECT_THAT(Refusal([&] { b.GlobalAveragePool("p", vector); }), HasSubstr("feature map"));
  EXPECT_THAT(Refusal([&] { b.Add("a", x, small); }), HasSubstr("[6, 4, 4] and [6, 2, 2]"));
  EXPECT_THAT(Refusal([&] { b.Multiply("m", x, small); }), HasSubstr("one value a channel"));
  EXPECT_THAT(Refusal([&] { b.Concat("c", {x, small}); }), HasSubstr("different sizes"));
  EXPECT_THAT(Refusal([&] { b.Concat("c", {vector, vector}); }), HasSubstr("feature map"));
  EXPECT_THAT(Refusal([&] { b.Concat("c", {}); }), HasSubstr("nothing"));
  EXPECT_THAT(Refusal([&] { b.Slice("s", x, 2, 7); }), HasSubstr("[2, 7) of 6"));
  EXPECT_THAT(Refusal([&] { b.Slice("s", x, 3, 3); }), HasSubstr("empty"));
  EXPECT_THAT(Refusal([&] { b.Tokens("t", vector); }), HasSubstr("feature map"));
  EXPECT_THAT(Refusal([&] { b.Attention("a", tokens, 4); }), HasSubstr("4 heads"));
  EXPECT_THAT(Refusal([&] { b.AddPositions("p", x, {}); }), HasSubstr("tokens [t, d]"));
  EXPECT_THAT(Refusal([&] { b.HideTokens("h", x, 0.1); }), HasSubstr("tokens [t, d]"));
  EXPECT_THAT(Refusal([&] { b.RestoreTokens("r", tokens, tokens, {}); }), HasSubstr("'tokens'"));
}

TEST(GraphBuilder, RefusesToFinishWhatIsNoNetwork) {
  GraphBuilder map({3, 4, 4});
  EXPECT_THAT(Refusal(ErrorCode::kInternal, [&] { map.Finish(); }), HasSubstr("vector"));
  GraphBuilder twins({3, 4, 4});
  twins.Flatten("twin", twins.Relu("twin", twins.input()));
  EXPECT_THAT(Refusal(ErrorCode::kInternal, [&] { twins.Finish(); }), HasSubstr("'twin'"));
}

TEST(Costs, CountAsTheirCommentSays) {
  GraphBuilder b({4, 6, 6});
  int x = b.Conv("conv", b.input(), {.out = 8, .kernel = {3, 3}, .groups = 2, .bias = true});
  x = b.Relu("relu", b.BatchNorm("bn", x, /*fixed_weight=*/true));
  x = b.Attention("attention", b.Linear("qkv", b.Tokens("tokens", x), 12, false), 2);
  b.Linear("fc", b.Flatten("flatten", x), 5, true);
  const Costs costs = CostsOf(b.Finish());
  // conv [8, 2, 3, 3] at 4 x 4 places, qkv [12, 8] at 16 tokens, two products of [16, 4] and
  // [4, 16], fc [5, 64].
  EXPECT_EQ(costs.multiply_adds, 144 * 16 + 96 * 16 + 2 * 16 * 16 * 4 + 5 * 64);
  EXPECT_EQ(costs.nodes[1].multiply_adds, 144 * 16);
  EXPECT_EQ(costs.parameters, (144 + 8) + 16 + 96 + (320 + 5));
  EXPECT_EQ(costs.trained_parameters, costs.parameters - 8);
  EXPECT_EQ(costs.activations, 4 * 36 + 3 * 8 * 16 + 16 * 12 + 16 * 4 + 5);
}

}  // namespace
}  // namespace fr
