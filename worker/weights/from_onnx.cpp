#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/quoted.h"
#include "proto/onnx.pb.h"
#include "worker/weights/foreign_graph.h"
#include "worker/weights/simplify_foreign.h"

namespace fr {
namespace {

using onnx::AttributeProto;
using onnx::NodeProto;
using Integers = std::vector<std::int64_t>;

constexpr double kEpsilon = 1e-5;  // of both norms, where the attribute is absent

std::string NameOf(const NodeProto& node) {
  if (!node.name().empty() || node.output().empty()) return node.name();
  return node.output(0);
}

[[noreturn]] void Fail(const NodeProto& node, const std::string& what) {
  throw Error(ErrorCode::kDataLoss,
              fmt::format("ONNX node {} ({}): {}", Quoted(NameOf(node)), node.op_type(), what));
}

const AttributeProto* FindAttribute(const NodeProto& node, const char* name) {
  for (const AttributeProto& attribute : node.attribute()) {
    if (attribute.name() == name) return &attribute;
  }
  return nullptr;
}

std::int64_t IntegerOf(const NodeProto& node, const char* name, std::int64_t absent) {
  const AttributeProto* attribute = FindAttribute(node, name);
  return attribute == nullptr ? absent : attribute->i();
}

double NumberOf(const NodeProto& node, const char* name, double absent) {
  const AttributeProto* attribute = FindAttribute(node, name);
  return attribute == nullptr ? absent : attribute->f();
}

Integers IntegersOf(const NodeProto& node, const char* name) {
  const AttributeProto* attribute = FindAttribute(node, name);
  if (attribute == nullptr) return {};
  return {attribute->ints().begin(), attribute->ints().end()};
}

std::array<std::int64_t, 2> PairOf(const NodeProto& node, const char* name) {
  const Integers integers = IntegersOf(node, name);
  if (integers.empty()) return {1, 1};
  if (integers.size() != 2) Fail(node, fmt::format("{} has {} numbers", name, integers.size()));
  return {integers[0], integers[1]};
}

// A value by its name: a tensor that is known, or a node's result.
struct Value {
  std::optional<HostTensor> constant;
  int node = -1;
};

class OnnxConverter {
 public:
  explicit OnnxConverter(const OnnxModel& model) : model_(model), proto_(model.proto->graph()) {}

  ForeignGraph Run() {
    for (const auto& [name, tensor] : model_.initializers) values_[name].constant = tensor;
    AddInput();
    for (const NodeProto& node : proto_.node()) Convert(node);
    if (proto_.output_size() != 1) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("the ONNX model has {} outputs; models with one, the embedding, are "
                              "read",
                              proto_.output_size()));
    }
    const auto output = values_.find(proto_.output(0).name());
    if (output == values_.end() || output->second.constant) {
      throw Error(ErrorCode::kDataLoss, fmt::format("the ONNX model's output {} is not computed",
                                                    Quoted(proto_.output(0).name())));
    }
    graph_.output = output->second.node;
    SimplifyForeign(&graph_);
    return std::move(graph_);
  }

 private:
  void AddInput() {
    std::vector<std::string> inputs;
    for (const auto& input : proto_.input()) {
      if (values_.count(input.name()) == 0) inputs.push_back(input.name());
    }
    if (inputs.size() != 1) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("the ONNX model has {} inputs; models with one, the image, are read",
                              inputs.size()));
    }
    ForeignNode node;
    node.op = ForeignOp::kInput;
    node.name = inputs[0];
    node.foreign_op = "input";
    Append(inputs[0], std::move(node));
  }

  void Append(const std::string& output, ForeignNode node) {
    graph_.nodes.push_back(std::move(node));
    values_[output] = {std::nullopt, static_cast<int>(graph_.nodes.size()) - 1};
  }

  const Value& ValueAt(const NodeProto& node, int index) const {
    if (index >= node.input_size()) Fail(node, fmt::format("has no input {}", index));
    const auto found = values_.find(node.input(index));
    if (found == values_.end()) {
      Fail(node, fmt::format("its input {} comes from nowhere", Quoted(node.input(index))));
    }
    return found->second;
  }

  // nullptr if the input is not given or is computed.
  const HostTensor* ConstantAt(const NodeProto& node, int index) const {
    if (index >= node.input_size() || node.input(index).empty()) return nullptr;
    const Value& value = ValueAt(node, index);
    return value.constant ? &*value.constant : nullptr;
  }

  // The numbers of a constant input; nothing if it is not given or is computed.
  std::optional<Integers> ConstantIntegers(const NodeProto& node, int index) const {
    constexpr std::int64_t kMost = 64;
    const HostTensor* constant = ConstantAt(node, index);
    if (constant == nullptr || constant->dtype != Dtype::kInt64 || constant->numel() > kMost) {
      return std::nullopt;
    }
    Integers integers(static_cast<std::size_t>(constant->numel()));
    if (!integers.empty()) {
      std::memcpy(integers.data(), constant->bytes.data(), constant->bytes.size());
    }
    return integers;
  }

  // From an attribute, of older operator sets, or a constant input.
  std::optional<Integers> AttributeOrInput(const NodeProto& node, const char* name,
                                           int index) const {
    if (FindAttribute(node, name) != nullptr) return IntegersOf(node, name);
    return ConstantIntegers(node, index);
  }

  // Takes input 0 and the tensors at the inputs after it; what is not constant makes it kOther.
  bool TakeTensors(const NodeProto& node, std::initializer_list<const char*> roles, int required,
                   ForeignNode* out) {
    int index = 0;
    for (const char* role : roles) {
      ++index;
      const HostTensor* tensor = ConstantAt(node, index);
      const bool given = index < node.input_size() && !node.input(index).empty();
      if (tensor == nullptr && (given || index <= required)) {
        out->foreign_op += fmt::format(" with a {} that is no constant", role);
        return false;
      }
      if (tensor != nullptr) out->tensors[role] = *tensor;
    }
    return true;
  }

  using Translator = void (OnnxConverter::*)(const NodeProto&, ForeignNode*);

  static const std::map<std::string, Translator>& Translators() {
    using C = OnnxConverter;
    static const std::map<std::string, Translator> translators = {
        {"Conv", &C::Conv},
        {"BatchNormalization", &C::BatchNorm},
        {"PRelu", &C::PRelu},
        {"Relu", &C::Simple<ForeignOp::kRelu>},
        {"Clip", &C::Clip},
        {"Sigmoid", &C::Simple<ForeignOp::kSigmoid>},
        {"Add", &C::Elementwise<ForeignOp::kAdd>},
        {"Mul", &C::Elementwise<ForeignOp::kMultiply>},
        {"Sub", &C::Elementwise<ForeignOp::kSubtract>},
        {"Div", &C::Divide},
        {"Concat", &C::Concat},
        {"Slice", &C::Slice},
        {"MaxPool", &C::Pool<ForeignOp::kMaxPool>},
        {"AveragePool", &C::Pool<ForeignOp::kAveragePool>},
        {"GlobalAveragePool", &C::Simple<ForeignOp::kGlobalAveragePool>},
        {"ReduceMean", &C::ReduceMean},
        {"Flatten", &C::Flatten},
        {"Reshape", &C::Reshape},
        {"Squeeze", &C::Simple<ForeignOp::kFlatten>},
        {"Dropout", &C::Simple<ForeignOp::kIdentity>},
        {"Identity", &C::Simple<ForeignOp::kIdentity>},
        {"Cast", &C::Simple<ForeignOp::kIdentity>},
        {"Gemm", &C::Gemm},
        {"MatMul", &C::MatMul},
        {"LayerNormalization", &C::LayerNorm},
        {"Softmax", &C::Softmax},
        {"Transpose", &C::Transpose}};
    return translators;
  }

  void Convert(const NodeProto& node) {
    if (node.output().empty()) Fail(node, "has no output");
    if (TakeConstant(node)) return;
    ForeignNode converted;
    converted.name = NameOf(node);
    converted.foreign_op = node.op_type();
    for (int i = 0; i < node.input_size(); ++i) {
      if (!node.input(i).empty() && !ValueAt(node, i).constant) {
        converted.inputs.push_back(ValueAt(node, i).node);
      }
    }
    if (node.op_type() == "Split") return Split(node, converted);
    const bool standard = node.domain().empty() || node.domain() == "ai.onnx";
    const auto found = Translators().find(node.op_type());
    if (standard && found != Translators().end()) (this->*found->second)(node, &converted);
    for (int i = 1; i < node.output_size(); ++i) {
      ForeignNode other;
      other.name = node.output(i);
      other.foreign_op = fmt::format("{}, output {}", node.op_type(), i);
      other.inputs = converted.inputs;
      Append(node.output(i), std::move(other));
    }
    Append(node.output(0), std::move(converted));
  }

  // Nodes whose value is known here: constants, and what exporters do with weights.
  bool TakeConstant(const NodeProto& node) {
    if (node.op_type() == "Constant") return TakeConstantNode(node);
    const HostTensor* input = node.input_size() > 0 ? ConstantAt(node, 0) : nullptr;
    if (input == nullptr) return false;
    // Casts change the type alone, and weights are converted to float32 in the end.
    if (node.op_type() == "Identity" || node.op_type() == "Cast") {
      values_[node.output(0)] = {*input, -1};
      return true;
    }
    if (node.op_type() == "Transpose" && IntegersOf(node, "perm") == Integers{1, 0} &&
        input->shape.size() == 2) {
      values_[node.output(0)] = {TransposedOnce(*input), -1};
      return true;
    }
    return node.op_type() == "Unsqueeze" && TakeUnsqueezed(node, *input);
  }

  // A constant with dimensions of size one more: a PRelu's slopes.
  bool TakeUnsqueezed(const NodeProto& node, const HostTensor& input) {
    std::optional<Integers> axes = AttributeOrInput(node, "axes", 1);
    if (!axes) return false;
    Integers shape = input.shape;
    const auto rank = static_cast<std::int64_t>(shape.size() + axes->size());
    constexpr std::int64_t kMaxRank = 64;
    if (rank > kMaxRank) Fail(node, fmt::format("makes {} dimensions", rank));
    for (std::int64_t& axis : *axes) axis += axis < 0 ? rank : 0;
    std::sort(axes->begin(), axes->end());
    for (const std::int64_t axis : *axes) {
      if (axis < 0 || axis > static_cast<std::int64_t>(shape.size())) {
        Fail(node, fmt::format("axis {} of {} dimensions", axis, rank));
      }
      shape.insert(shape.begin() + axis, 1);
    }
    values_[node.output(0)] = {input.Reshaped(std::move(shape)), -1};
    return true;
  }

  bool TakeConstantNode(const NodeProto& node) {
    HostTensor tensor;
    if (const AttributeProto* value = FindAttribute(node, "value")) {
      try {
        tensor = TensorOf(value->t(), model_.proto);
      } catch (const Error& error) {
        Fail(node, error.what());
      }
    } else if (const AttributeProto* number = FindAttribute(node, "value_float")) {
      tensor = HostTensor::FromFloats({}, {number->f()});
    } else if (const AttributeProto* numbers = FindAttribute(node, "value_floats")) {
      tensor = HostTensor::FromFloats({numbers->floats_size()},
                                      {numbers->floats().begin(), numbers->floats().end()});
    } else if (FindAttribute(node, "value_int") != nullptr ||
               FindAttribute(node, "value_ints") != nullptr) {
      const AttributeProto* integer = FindAttribute(node, "value_int");
      const Integers integers =
          integer != nullptr ? Integers{integer->i()} : IntegersOf(node, "value_ints");
      Integers shape;
      if (integer == nullptr) shape.push_back(static_cast<std::int64_t>(integers.size()));
      tensor = HostTensor::FromBytes(
          Dtype::kInt64, shape,
          std::string(reinterpret_cast<const char*>(integers.data()), integers.size() * 8));
    } else {
      return false;
    }
    values_[node.output(0)] = {std::move(tensor), -1};
    return true;
  }

  template <ForeignOp op>
  void Simple(const NodeProto& node, ForeignNode* out) {
    if (node.input_size() == 0) Fail(node, "has no input");
    if (node.input(0).empty() || ValueAt(node, 0).constant) {
      out->foreign_op += " of a constant";
      return;
    }
    out->op = op;
    out->inputs.erase(out->inputs.begin() + 1, out->inputs.end());
  }

  bool TakeWindow(const NodeProto& node, ForeignNode* out) {
    const AttributeProto* auto_pad = FindAttribute(node, "auto_pad");
    if (auto_pad != nullptr && auto_pad->s() != "NOTSET" && auto_pad->s() != "VALID") {
      out->foreign_op += " with auto_pad " + auto_pad->s();
      return false;
    }
    if (IntegersOf(node, "kernel_shape").size() != 2) {
      out->foreign_op += " that is not over height and width";
      return false;
    }
    out->kernel = PairOf(node, "kernel_shape");
    out->stride = PairOf(node, "strides");
    out->dilation = PairOf(node, "dilations");
    const Integers pads = IntegersOf(node, "pads");
    if (pads.size() != 4 && !pads.empty()) Fail(node, fmt::format("has {} pads", pads.size()));
    if (pads.size() == 4) {
      out->pad_begin = {pads[0], pads[1]};
      out->pad_end = {pads[2], pads[3]};
    }
    return true;
  }

  void Conv(const NodeProto& node, ForeignNode* out) {
    if (!TakeTensors(node, {"weight", "bias"}, 1, out)) return;
    if (!TakeWindow(node, out)) return;
    Simple<ForeignOp::kConv>(node, out);
    out->groups = IntegerOf(node, "group", 1);
  }

  template <ForeignOp op>
  void Pool(const NodeProto& node, ForeignNode* out) {
    if (!TakeWindow(node, out)) return;
    Simple<op>(node, out);
    out->ceil_mode = IntegerOf(node, "ceil_mode", 0) != 0;
    out->count_padding = IntegerOf(node, "count_include_pad", 0) != 0;
  }

  void ReduceMean(const NodeProto& node, ForeignNode* out) {
    std::optional<Integers> axes = AttributeOrInput(node, "axes", 1);
    if (!axes) return;
    std::sort(axes->begin(), axes->end());
    if (*axes == Integers{2, 3} || *axes == Integers{-2, -1}) {
      Simple<ForeignOp::kGlobalAveragePool>(node, out);
    } else {
      out->foreign_op += " over axes " + ShapeText(*axes);
    }
  }

  void BatchNorm(const NodeProto& node, ForeignNode* out) {
    if (!TakeTensors(node, {"weight", "bias", "running_mean", "running_var"}, 4, out)) return;
    Simple<ForeignOp::kBatchNorm>(node, out);
    out->epsilon = NumberOf(node, "epsilon", kEpsilon);
  }

  void LayerNorm(const NodeProto& node, ForeignNode* out) {
    if (!TakeTensors(node, {"weight", "bias"}, 1, out)) return;
    Simple<ForeignOp::kLayerNorm>(node, out);
    out->axis = IntegerOf(node, "axis", -1);
    out->epsilon = NumberOf(node, "epsilon", kEpsilon);
  }

  void PRelu(const NodeProto& node, ForeignNode* out) {
    if (!TakeTensors(node, {"slope"}, 1, out)) return;
    Simple<ForeignOp::kPRelu>(node, out);
    HostTensor& slope = out->tensors["slope"];
    // [c, 1, 1], so that it meets the channels of [n, c, h, w].
    slope = slope.Reshaped({slope.numel()});
  }

  // The bounds are attributes before operator set 11, inputs since.
  double Bound(const NodeProto& node, const char* name, int index, double absent) const {
    if (FindAttribute(node, name) != nullptr) return NumberOf(node, name, absent);
    const HostTensor* bound = ConstantAt(node, index);
    if (bound == nullptr || bound->numel() != 1) return absent;
    return bound->ToFloat32().floats()[0];
  }

  void Clip(const NodeProto& node, ForeignNode* out) {
    Simple<ForeignOp::kClip>(node, out);
    out->clip_min = Bound(node, "min", 1, -std::numeric_limits<double>::infinity());
    out->clip_max = Bound(node, "max", 2, std::numeric_limits<double>::infinity());
  }

  template <ForeignOp op>
  void Elementwise(const NodeProto& node, ForeignNode* out) {
    if (node.input_size() != 2) Fail(node, fmt::format("has {} inputs", node.input_size()));
    out->op = op;
    for (int i = 0; i < 2; ++i) {
      const HostTensor* constant = ConstantAt(node, i);
      if (constant == nullptr) continue;
      out->tensors["constant"] = *constant;
      out->constant_first = i == 0 && op == ForeignOp::kSubtract;
    }
    if (out->inputs.empty()) {
      out->op = ForeignOp::kOther;
      out->foreign_op += " of two constants";
    }
  }

  // By a constant: multiplied with its inverse.
  void Divide(const NodeProto& node, ForeignNode* out) {
    const HostTensor* constant = ConstantAt(node, 1);
    constexpr std::int64_t kMost = 1 << 16;
    if (constant == nullptr || constant->numel() > kMost || out->inputs.size() != 1) return;
    const HostTensor divisor = constant->ToFloat32();
    std::vector<float> inverse;
    for (const float value : divisor.floats()) {
      if (value == 0) Fail(node, "divides by zero");
      inverse.push_back(1 / value);
    }
    out->op = ForeignOp::kMultiply;
    out->tensors["constant"] = HostTensor::FromFloats(divisor.shape, std::move(inverse));
  }

  void Concat(const NodeProto& node, ForeignNode* out) {
    concat_sizes_[node.output(0)] = node.input_size();
    if (out->inputs.size() != static_cast<std::size_t>(node.input_size())) {
      out->foreign_op += " with constants";
      return;
    }
    out->op = ForeignOp::kConcat;
    out->axis = IntegerOf(node, "axis", 1);
  }

  void Slice(const NodeProto& node, ForeignNode* out) {
    const auto starts = AttributeOrInput(node, "starts", 1);
    const auto ends = AttributeOrInput(node, "ends", 2);
    const auto axes = AttributeOrInput(node, "axes", 3);
    const auto steps = ConstantIntegers(node, 4);
    if (!starts || !ends || !axes || starts->size() != 1 || ends->size() != 1 ||
        axes->size() != 1 || (steps && *steps != Integers{1})) {
      out->foreign_op += " that is not of one axis in steps of one";
      return;
    }
    Simple<ForeignOp::kSlice>(node, out);
    out->axis = axes->front();
    out->begin = starts->front();
    out->end = ends->front();
  }

  void Split(const NodeProto& node, const ForeignNode& split) {
    const auto sizes = AttributeOrInput(node, "split", 1);
    if (sizes && sizes->size() != static_cast<std::size_t>(node.output_size())) {
      Fail(node, fmt::format("has {} sizes for {} outputs", sizes->size(), node.output_size()));
    }
    std::int64_t begin = 0;
    for (int i = 0; i < node.output_size(); ++i) {
      ForeignNode part = split;
      part.name = node.output(i);
      Simple<ForeignOp::kSlice>(node, &part);
      part.axis = IntegerOf(node, "axis", 0);
      if (sizes) {
        part.begin = begin;
        if (__builtin_add_overflow(begin, (*sizes)[static_cast<std::size_t>(i)], &begin)) {
          Fail(node, "its sizes overflow");
        }
        part.end = begin;
      } else {
        part.part = i;
        part.parts = node.output_size();
      }
      Append(node.output(i), std::move(part));
    }
  }

  void Flatten(const NodeProto& node, ForeignNode* out) {
    const std::int64_t axis = IntegerOf(node, "axis", 1);
    if (axis == 1) return Simple<ForeignOp::kFlatten>(node, out);
    out->foreign_op += fmt::format(" from axis {}", axis);
  }

  // To [n, d], or to [n, c, 1, 1]. A shape that is computed from that of the input is a Concat of
  // its sizes.
  void Reshape(const NodeProto& node, ForeignNode* out) {
    const auto shape = AttributeOrInput(node, "shape", 1);
    bool flattens = false;
    if (shape) {
      const std::size_t rank = shape->size();
      flattens = rank == 2 || (rank == 4 && (*shape)[2] == 1 && (*shape)[3] == 1);
      if (!flattens) out->foreign_op += " to " + ShapeText(*shape);
    } else if (node.input_size() > 1) {
      const auto sizes = concat_sizes_.find(node.input(1));
      flattens = sizes != concat_sizes_.end() && sizes->second == 2;
      if (!flattens) out->foreign_op += " to a computed shape";
    }
    if (flattens) Simple<ForeignOp::kFlatten>(node, out);
  }

  // Weights that several nodes share are transposed once: work and memory stay within the file's.
  HostTensor TransposedOnce(const HostTensor& matrix) {
    HostTensor& transposed = transposed_[{matrix.bytes.data(), matrix.shape[0]}];
    if (!transposed.owner) transposed = matrix.Transposed();
    return transposed;
  }

  // y = x B + C with B [in, out], or [out, in] if transB.
  void Gemm(const NodeProto& node, ForeignNode* out) {
    if (!TakeTensors(node, {"weight", "bias"}, 1, out)) return;
    HostTensor& weight = out->tensors["weight"];
    const bool plain = NumberOf(node, "alpha", 1) == 1 && IntegerOf(node, "transA", 0) == 0 &&
                       (NumberOf(node, "beta", 1) == 1 || out->tensor("bias") == nullptr);
    if (!plain || weight.shape.size() != 2) {
      out->foreign_op += " with alpha, beta or transA";
      return;
    }
    Simple<ForeignOp::kLinear>(node, out);
    if (IntegerOf(node, "transB", 0) == 0) weight = TransposedOnce(weight);
  }

  void MatMul(const NodeProto& node, ForeignNode* out) {
    if (!TakeTensors(node, {"weight"}, 1, out)) return;
    HostTensor& weight = out->tensors["weight"];
    if (weight.shape.size() != 2) {
      out->foreign_op += " with a tensor of shape " + ShapeText(weight.shape);
      return;
    }
    Simple<ForeignOp::kLinear>(node, out);
    weight = TransposedOnce(weight);
  }

  void Softmax(const NodeProto& node, ForeignNode* out) {
    Simple<ForeignOp::kSoftmax>(node, out);
    out->axis = IntegerOf(node, "axis", -1);
  }

  void Transpose(const NodeProto& node, ForeignNode* out) {
    Simple<ForeignOp::kTranspose>(node, out);
    out->permutation = IntegersOf(node, "perm");
  }

  const OnnxModel& model_;
  const onnx::GraphProto& proto_;
  ForeignGraph graph_;
  std::unordered_map<std::string, Value> values_;
  std::unordered_map<std::string, int> concat_sizes_;
  // By the original's bytes and rows.
  std::map<std::pair<const char*, std::int64_t>, HostTensor> transposed_;
};

}  // namespace

ForeignGraph FromOnnx(const OnnxModel& model) { return OnnxConverter(model).Run(); }

}  // namespace fr
