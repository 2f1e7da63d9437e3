#include "worker/weights/foreign_graph.h"

#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/temporary_directory.h"
#include "proto/onnx.pb.h"
#include "tests/worker/weights/damage.h"
#include "worker/weights/match.h"

namespace fr {
namespace {

using Pair = std::array<std::int64_t, 2>;

std::vector<float> Floats(const HostTensor* tensor) {
  if (tensor == nullptr) return {};
  const HostTensor floats = tensor->ToFloat32();
  return {floats.floats().begin(), floats.floats().end()};
}

// 0, 1, 2... in `shape`.
HostTensor Counting(const std::vector<std::int64_t>& shape) {
  std::vector<float> values(static_cast<std::size_t>(CountElements(shape)));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  return HostTensor::FromFloats(shape, std::move(values));
}

// Writes a symbol node after node; parameters appear as they are named.
class Symbol {
 public:
  Symbol() { Add("null", "data", {}, {}); }

  int Add(const std::string& op, const std::string& name, const std::vector<MxnetEntry>& inputs,
          const std::map<std::string, std::string>& attributes) {
    symbol_.nodes.push_back({op, name, attributes, inputs});
    return static_cast<int>(symbol_.nodes.size()) - 1;
  }
  int Parameter(const std::string& name, const HostTensor& value) {
    params_.Add("arg:" + name, value);
    return Add("null", name, {}, {});
  }
  ForeignGraph Read() {
    symbol_.heads = {{symbol_.nodes.size() - 1, 0}};
    return FromMxnet(symbol_, params_);
  }
  // The last node as it was read.
  ForeignNode Last() {
    const ForeignGraph graph = Read();
    return graph.node(graph.output);
  }

 private:
  MxnetSymbol symbol_;
  HostTensors params_;
};

// One node on the input.
ForeignNode ReadMxnetNode(const std::string& op,
                          const std::map<std::string, std::string>& attributes) {
  Symbol symbol;
  symbol.Add(op, "node", {{0, 0}}, attributes);
  return symbol.Last();
}

TEST(FromMxnet, Pooling) {
  const ForeignNode max = ReadMxnetNode(
      "Pooling",
      {{"kernel", "(3L, 3L)"}, {"stride", "(2,2)"}, {"pad", "[1, 1]"}, {"pool_type", "max"}});
  EXPECT_EQ(max.op, ForeignOp::kMaxPool);
  EXPECT_EQ(max.kernel, (Pair{3, 3}));
  EXPECT_EQ(max.stride, (Pair{2, 2}));
  EXPECT_EQ(max.pad_end, (Pair{1, 1}));
  EXPECT_FALSE(max.ceil_mode);
  const ForeignNode full = ReadMxnetNode(
      "Pooling", {{"kernel", "(2, 2)"}, {"pool_type", "avg"}, {"pooling_convention", "full"}});
  EXPECT_EQ(full.op, ForeignOp::kAveragePool);
  EXPECT_TRUE(full.ceil_mode && full.count_padding);
  EXPECT_EQ(ReadMxnetNode("Pooling", {{"global_pool", "1"}, {"pool_type", "avg"}}).op,
            ForeignOp::kGlobalAveragePool);
  EXPECT_EQ(ReadMxnetNode("Pooling", {{"global_pool", "True"}, {"pool_type", "max"}}).op,
            ForeignOp::kOther);
  EXPECT_EQ(ReadMxnetNode("Pooling", {{"kernel", "(2, 2)"}, {"pool_type", "sum"}}).op,
            ForeignOp::kOther);
}

TEST(FromMxnet, PartsOfChannels) {
  const ForeignNode slice =
      ReadMxnetNode("slice_axis", {{"axis", "1"}, {"begin", "2"}, {"end", "None"}});
  EXPECT_EQ(slice.op, ForeignOp::kSlice);
  EXPECT_EQ(slice.begin, 2);
  EXPECT_EQ(slice.end, std::numeric_limits<std::int64_t>::max());
  Symbol symbol;
  symbol.Add("SliceChannel", "split", {{0, 0}}, {{"num_outputs", "2"}});
  symbol.Add("Concat", "concat", {{1, 1}, {1, 0}}, {});
  const ForeignGraph graph = symbol.Read();
  const ForeignNode& concat = graph.node(graph.output);
  EXPECT_EQ(concat.op, ForeignOp::kConcat);
  EXPECT_EQ(graph.node(concat.inputs[0]).part, 1);
  EXPECT_EQ(graph.node(concat.inputs[1]).part, 0);
  EXPECT_EQ(graph.node(concat.inputs[1]).parts, 2);
}

TEST(FromMxnet, Activations) {
  EXPECT_EQ(ReadMxnetNode("Activation", {{"act_type", "sigmoid"}}).op, ForeignOp::kSigmoid);
  EXPECT_EQ(ReadMxnetNode("Activation", {{"act_type", "relu"}}).op, ForeignOp::kRelu);
  const ForeignNode tanh = ReadMxnetNode("Activation", {{"act_type", "tanh"}});
  EXPECT_EQ(tanh.op, ForeignOp::kOther);
  EXPECT_EQ(tanh.foreign_op, "Activation tanh");
  EXPECT_EQ(ReadMxnetNode("LeakyReLU", {}).op, ForeignOp::kOther);
  const ForeignNode clip = ReadMxnetNode("clip", {{"a_min", "0"}, {"a_max", "6.0"}});
  EXPECT_EQ(clip.clip_max, 6);
  EXPECT_EQ(ReadMxnetNode("nonsense", {}).foreign_op, "nonsense");
}

// In the order and kind of either framework's spelling.
TEST(FromMxnet, Preprocessing) {
  Symbol symbol;
  symbol.Add("_mul_scalar", "a", {{0, 0}}, {{"scalar", "0.5"}});
  symbol.Add("_plus_scalar", "b", {{1, 0}}, {{"scalar", "1"}});
  symbol.Add("_div_scalar", "c", {{2, 0}}, {{"scalar", "4"}});
  symbol.Add("Flatten", "d", {{3, 0}}, {});
  // (0.5 x + 1) / 4 = (x + 2) / 8
  EXPECT_EQ(symbol.Read().preprocessing, (Preprocessing{-2, 8}));
  // 255 - x is none.
  Symbol inverted;
  inverted.Add("_rminus_scalar", "a", {{0, 0}}, {{"scalar", "255"}});
  EXPECT_EQ(inverted.Read().preprocessing, std::nullopt);
  EXPECT_EQ(inverted.Last().op, ForeignOp::kSubtract);
}

TEST(FromMxnet, RefusesWhatMakesNoSense) {
  const auto expect = [](const std::function<void()>& read, const char* part) {
    std::string message;
    EXPECT_EQ(CodeOf(read, &message), ErrorCode::kInvalidArgument);
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  expect([] { ReadMxnetNode("Pooling", {{"kernel", "(a, 3)"}}); }, "kernel");
  expect(
      [] {
        ReadMxnetNode("Pooling", {{"kernel", "(3, 3)"}, {"stride", "(1, 2, 3)"}});
      },
      "stride");
  expect([] { ReadMxnetNode("clip", {{"a_min", "low"}}); }, "a_min");
  expect([] { ReadMxnetNode("Pooling", {{"global_pool", "maybe"}}); }, "maybe");
  expect([] { ReadMxnetNode("_div_scalar", {{"scalar", "0"}}); }, "zero");
  expect([] { ReadMxnetNode("Convolution", {{"kernel", "(3, 3)"}}); }, "node_weight");
  expect(
      [] {
        Symbol symbol;
        symbol.Add("null", "other", {}, {});
        symbol.Add("elemwise_add", "sum", {{0, 0}, {1, 0}}, {});
        symbol.Read();
      },
      "second input");
  expect(
      [] {
        Symbol symbol;
        symbol.Add("Flatten", "flat", {}, {});
        symbol.Read();
      },
      "no input 0");
}

// Writes an ONNX graph node after node.
class Onnx {
 public:
  Onnx() : model_(std::make_shared<onnx::ModelProto>()) { graph()->add_input()->set_name("x"); }

  onnx::GraphProto* graph() { return model_->mutable_graph(); }

  onnx::NodeProto* Add(const std::string& op, const std::vector<std::string>& inputs,
                       const std::vector<std::string>& outputs) {
    onnx::NodeProto* node = graph()->add_node();
    node->set_op_type(op);
    for (const std::string& input : inputs) node->add_input(input);
    for (const std::string& output : outputs) node->add_output(output);
    return node;
  }
  static void Set(onnx::NodeProto* node, const std::string& name,
                  const std::vector<std::int64_t>& integers) {
    onnx::AttributeProto* attribute = node->add_attribute();
    attribute->set_name(name);
    if (integers.size() == 1) attribute->set_i(integers[0]);
    for (const std::int64_t integer : integers) attribute->add_ints(integer);
  }
  void Constant(const std::string& name, const HostTensor& value) { constants_.Add(name, value); }
  void Integers(const std::string& name, const std::vector<std::int64_t>& values) {
    Constant(name, HostTensor::FromBytes(Dtype::kInt64, {static_cast<std::int64_t>(values.size())},
                                         std::string(reinterpret_cast<const char*>(values.data()),
                                                     values.size() * sizeof(std::int64_t))));
  }
  ForeignGraph Read(const std::string& output) {
    graph()->clear_output();
    graph()->add_output()->set_name(output);
    return FromOnnx({model_, constants_, 13, {}});
  }
  ForeignNode Last(const std::string& output) {
    const ForeignGraph read = Read(output);
    return read.node(read.output);
  }

 private:
  std::shared_ptr<onnx::ModelProto> model_;
  HostTensors constants_;
};

TEST(FromOnnx, LinearLayersInEverySpelling) {
  for (const int transposed : {0, 1}) {
    Onnx onnx;
    onnx.Constant("w", transposed != 0 ? Counting({2, 3}) : Counting({2, 3}).Transposed());
    onnx.Constant("b", Counting({2}));
    Onnx::Set(onnx.Add("Gemm", {"x", "w", "b"}, {"y"}), "transB", {transposed});
    const ForeignNode gemm = onnx.Last("y");
    EXPECT_EQ(gemm.op, ForeignOp::kLinear);
    EXPECT_EQ(Floats(gemm.tensor("weight")), (std::vector<float>{0, 1, 2, 3, 4, 5}));
    EXPECT_EQ(Floats(gemm.tensor("bias")), (std::vector<float>{0, 1}));
  }
  Onnx onnx;
  onnx.Constant("w", Counting({2, 3}).Transposed());
  onnx.Constant("b", Counting({2}));
  onnx.Add("MatMul", {"x", "w"}, {"product"});
  onnx.Add("Add", {"b", "product"}, {"y"});
  const ForeignGraph graph = onnx.Read("y");
  EXPECT_EQ(graph.node(graph.output).op, ForeignOp::kIdentity);
  const ForeignNode& linear = graph.node(graph.node(graph.output).inputs[0]);
  EXPECT_EQ(linear.tensor("weight")->shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(Floats(linear.tensor("bias")), (std::vector<float>{0, 1}));
}

TEST(FromOnnx, PreprocessingAChannel) {
  for (const bool alike : {true, false}) {
    Onnx onnx;
    onnx.Constant("mean", HostTensor::FromFloats({1, 3, 1, 1}, {127.5, 127.5, 127.5}));
    const float last = alike ? 127.5F : 127.4F;
    onnx.Constant("std", HostTensor::FromFloats({3, 1, 1}, {127.5, 127.5, last}));
    onnx.Add("Sub", {"x", "mean"}, {"centred"});
    onnx.Add("Div", {"centred", "std"}, {"scaled"});
    onnx.Add("Relu", {"scaled"}, {"y"});
    if (alike) {
      EXPECT_EQ(onnx.Read("y").preprocessing, Preprocessing());
    } else {
      EXPECT_EQ(CodeOf([&] { onnx.Read("y"); }), ErrorCode::kInvalidArgument);
    }
  }
}

TEST(FromOnnx, WhatHasNoPlaceIsNamed) {
  Onnx onnx;
  onnx.Constant("w", Counting({1, 3, 3, 3}));
  onnx::NodeProto* conv = onnx.Add("Conv", {"x", "w"}, {"y"});
  Onnx::Set(conv, "kernel_shape", {3, 3});
  onnx::AttributeProto* auto_pad = conv->add_attribute();
  auto_pad->set_name("auto_pad");
  auto_pad->set_s("SAME_UPPER");
  EXPECT_EQ(onnx.Last("y").foreign_op, "Conv with auto_pad SAME_UPPER");
  Onnx::Set(onnx.Add("Flatten", {"x"}, {"flat"}), "axis", {2});
  EXPECT_EQ(onnx.Last("flat").foreign_op, "Flatten from axis 2");
  onnx.Add("Conv", {"x", "x"}, {"z"});
  EXPECT_EQ(onnx.Last("z").op, ForeignOp::kOther);
  onnx.Add("Relu", {"w"}, {"constant"});
  EXPECT_EQ(onnx.Last("constant").foreign_op, "Relu of a constant");
}

TEST(FromOnnx, RefusesBrokenGraphs) {
  const auto expect = [](ErrorCode code, const std::function<void(Onnx*)>& make, const char* output,
                         const char* part) {
    Onnx onnx;
    make(&onnx);
    std::string message;
    EXPECT_EQ(CodeOf([&] { onnx.Read(output); }, &message), code);
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  const auto data_loss = ErrorCode::kDataLoss;
  expect(
      data_loss, [](Onnx* o) { o->Add("Relu", {"nowhere"}, {"y"}); }, "y", "nowhere");
  expect(
      data_loss, [](Onnx* o) { o->Add("Relu", {"x"}, {"y"}); }, "z", "not computed");
  expect(
      data_loss, [](Onnx* o) { o->Add("Relu", {}, {"y"}); }, "y", "no input");
  expect(
      data_loss, [](Onnx* o) { o->Add("Relu", {"x"}, {}); }, "x", "no output");
  expect(
      ErrorCode::kInvalidArgument, [](Onnx* o) { o->graph()->add_input()->set_name("mask"); }, "x",
      "2 inputs");
}

// Slices, concatenations, pools and scaled sums, as DPN and Inception-ResNet have them.
TEST(FromOnnx, OtherFamiliesMatchOurs) {
  const auto ours = [](std::int64_t end, double factor, bool ceil) {
    GraphBuilder b({3, 9, 9});
    int x = b.Relu6("relu6", b.Conv("conv", 0, {.out = 6, .kernel = {3, 3}}));
    x = b.MaxPool("pool", x, {.kernel = 2, .stride = 2, .ceil_mode = ceil});
    const int head = b.Slice("head", x, 0, end);
    const int tail = b.Slice("tail", x, end, 6);
    x = b.Concat("concat", {tail, head});
    x = b.Add("sum", x, b.Conv("branch", x, {.out = 6, .bias = true}), factor);
    x = b.AveragePool("average", x,
                      {.kernel = 2, .stride = 1, .padding = 1, .count_padding = false});
    x = b.Flatten("flatten", b.GlobalAveragePool("gap", x));
    b.BatchNorm("bn", b.Linear("fc", x, 2, false));
    return b.Finish();
  };
  Onnx o;
  const auto conv = [&](const char* x, const char* y, std::int64_t in, std::int64_t kernel) {
    o.Constant(std::string(y) + "w", Counting({6, in, kernel, kernel}));
    o.Constant(std::string(y) + "b", Counting({6}));
    onnx::NodeProto* node = o.Add("Conv", {x, std::string(y) + "w", std::string(y) + "b"}, {y});
    Onnx::Set(node, "kernel_shape", {kernel, kernel});
  };
  o.Constant("w0", Counting({6, 3, 3, 3}));
  Onnx::Set(o.Add("Conv", {"x", "w0"}, {"c"}), "kernel_shape", {3, 3});
  o.Constant("zero", HostTensor::FromFloats({}, {0}));
  o.Constant("six", HostTensor::FromFloats({}, {6}));
  o.Add("Clip", {"c", "zero", "six"}, {"r"});
  onnx::NodeProto* pool = o.Add("MaxPool", {"r"}, {"p"});
  Onnx::Set(pool, "kernel_shape", {2, 2});
  Onnx::Set(pool, "strides", {2, 2});
  Onnx::Set(pool, "ceil_mode", {1});
  o.Integers("sizes", {2, 4});
  Onnx::Set(o.Add("Split", {"p", "sizes"}, {"head", "tail"}), "axis", {1});
  Onnx::Set(o.Add("Concat", {"tail", "head"}, {"cat"}), "axis", {1});
  conv("cat", "branch", 6, 1);
  o.Constant("scale", HostTensor::FromFloats({}, {0.17F}));
  o.Add("Mul", {"branch", "scale"}, {"scaled"});
  o.Add("Add", {"scaled", "cat"}, {"sum"});
  onnx::NodeProto* average = o.Add("AveragePool", {"sum"}, {"average"});
  Onnx::Set(average, "kernel_shape", {2, 2});
  Onnx::Set(average, "pads", {1, 1, 1, 1});
  Onnx::Set(o.Add("ReduceMean", {"average"}, {"gap"}), "axes", {-1, -2});
  o.Constant("fc", Counting({6, 2}));
  o.Add("MatMul", {"gap", "fc"}, {"y"});
  const ForeignGraph theirs = o.Read("y");

  const auto matched = MatchForeignGraph(ours(2, 0.17, true), theirs);
  EXPECT_EQ(Floats(&matched.at("fc.weight")),
            (std::vector<float>{0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11}));
  EXPECT_EQ(Floats(&matched.at("branch.bias")), (std::vector<float>{0, 1, 2, 3, 4, 5}));
  // There is no batch norm in theirs: ours does nothing.
  EXPECT_EQ(Floats(&matched.at("bn.bias")), (std::vector<float>{0, 0}));
  EXPECT_FLOAT_EQ(Floats(&matched.at("bn.weight"))[0], std::sqrt(1 + 1e-5F));

  const auto refusal = [&](const Graph& graph) {
    std::string message;
    EXPECT_EQ(CodeOf([&] { MatchForeignGraph(graph, theirs); }, &message),
              ErrorCode::kInvalidArgument);
    return message;
  };
  EXPECT_NE(refusal(ours(3, 0.17, true)).find("channels [2, 6) instead of [3, 6)"),
            std::string::npos);
  EXPECT_NE(refusal(ours(2, 0.2, true)).find("times 0.2"), std::string::npos);
  EXPECT_NE(refusal(ours(2, 0.17, false)).find("parts of windows count"), std::string::npos);
}

}  // namespace
}  // namespace fr
