#include <algorithm>
#include <charconv>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/quoted.h"
#include "worker/weights/foreign_graph.h"
#include "worker/weights/simplify_foreign.h"

namespace fr {
namespace {

using Attributes = std::map<std::string, std::string>;

constexpr double kBatchNormEpsilon = 1e-3;  // MXNet's, where the attribute is absent
constexpr double kLayerNormEpsilon = 1e-5;

[[noreturn]] void Fail(const MxnetNode& node, const std::string& what) {
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("MXNet node {} ({}): {}", Quoted(node.name), node.op, what));
}

// Reads attributes of one node, which are texts: "(3, 3)", "True", "2e-05".
class AttributeReader {
 public:
  explicit AttributeReader(const MxnetNode& node) : node_(node) {}

  std::string Text(const std::string& key, const std::string& absent) const {
    const auto found = node_.attributes.find(key);
    return found == node_.attributes.end() ? absent : found->second;
  }

  bool Bool(const std::string& key, bool absent) const {
    const std::string text = Text(key, absent ? "True" : "False");
    if (text == "True" || text == "true" || text == "1") return true;
    if (text == "False" || text == "false" || text == "0" || text == "None") return false;
    FailAttribute(key, text);
  }

  double Number(const std::string& key, double absent) const {
    const auto found = node_.attributes.find(key);
    if (found == node_.attributes.end()) return absent;
    const std::string& text = found->second;
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size()) FailAttribute(key, text);
    return number;
  }

  // Absent, too, if it is None.
  std::int64_t Integer(const std::string& key, std::int64_t absent) const {
    if (Text(key, "None") == "None") return absent;
    const std::vector<std::int64_t> integers = Integers(key);
    if (integers.size() != 1) FailAttribute(key, Text(key, ""));
    return integers[0];
  }

  // Of "(3, 3)", "[3,3]", "(3L, 3L)" or "3"; empty if absent, None or "()".
  std::vector<std::int64_t> Integers(const std::string& key) const {
    const std::string text = Text(key, "None");
    std::vector<std::int64_t> integers;
    if (text == "None") return integers;
    const char* at = text.data();
    const char* const end = text.data() + text.size();
    while (at != end) {
      if (std::string_view("()[],L ").find(*at) != std::string_view::npos) {
        ++at;
        continue;
      }
      std::int64_t integer = 0;
      const auto [next, error] = std::from_chars(at, end, integer);
      if (error != std::errc()) FailAttribute(key, text);
      integers.push_back(integer);
      at = next;
    }
    return integers;
  }

  // Height and width.
  std::array<std::int64_t, 2> Pair(const std::string& key, std::int64_t absent) const {
    const std::vector<std::int64_t> integers = Integers(key);
    if (integers.empty()) return {absent, absent};
    if (integers.size() != 2) FailAttribute(key, Text(key, ""));
    return {integers[0], integers[1]};
  }

 private:
  [[noreturn]] void FailAttribute(const std::string& key, const std::string& text) const {
    Fail(node_, fmt::format("attribute {} has the value {}", key, Quoted(text)));
  }

  const MxnetNode& node_;
};

class MxnetConverter {
 public:
  MxnetConverter(const MxnetSymbol& symbol, const HostTensors& params)
      : symbol_(symbol), params_(params) {}

  ForeignGraph Run() {
    const MxnetEntry output = Embedding();
    const std::vector<bool> needed = Needed(output);
    for (std::size_t i = 0; i <= output.node; ++i) {
      if (needed[i] && symbol_.nodes[i].op != "null") Convert(i);
    }
    graph_.output = ValueOf(output);
    SimplifyForeign(&graph_);
    return std::move(graph_);
  }

 private:
  MxnetEntry Embedding() const {
    for (std::size_t i = 0; i < symbol_.nodes.size(); ++i) {
      if (symbol_.nodes[i].name == "fc1" && symbol_.nodes[i].op != "null") return {i, 0};
    }
    return symbol_.heads.back();
  }

  std::vector<bool> Needed(const MxnetEntry& output) const {
    std::vector<bool> needed(symbol_.nodes.size(), false);
    needed[output.node] = true;
    for (std::size_t i = output.node + 1; i-- > 0;) {
      if (!needed[i]) continue;
      for (const MxnetEntry& input : symbol_.nodes[i].inputs) needed[input.node] = true;
    }
    return needed;
  }

  // nullptr if the parameter file has none of that name.
  const HostTensor* FindParameter(const std::string& name) const {
    for (const char* prefix : {"arg:", "aux:", ""}) {
      if (const HostTensor* tensor = params_.Find(prefix + name)) return tensor;
    }
    return nullptr;
  }

  HostTensor Parameter(const MxnetNode& node, const std::string& name) const {
    const HostTensor* tensor = FindParameter(name);
    if (tensor == nullptr) {
      Fail(node, fmt::format("the parameter file has no {}: are the two files of one model?",
                             Quoted(name)));
    }
    return *tensor;
  }

  // The parameter that input `index` of `node` is. Symbols before 0.9 leave statistics out of the
  // inputs: they have the node's name and `suffix`.
  HostTensor ParameterAt(const MxnetNode& node, std::size_t index, const char* suffix) const {
    if (index >= node.inputs.size()) return Parameter(node, node.name + suffix);
    const MxnetNode& parameter = symbol_.nodes[node.inputs[index].node];
    if (parameter.op != "null") {
      Fail(node, fmt::format("input {} is computed, where a parameter is expected", index));
    }
    return Parameter(node, parameter.name);
  }

  bool IsParameter(const MxnetEntry& entry) const {
    const MxnetNode& node = symbol_.nodes[entry.node];
    return node.op == "null" && FindParameter(node.name) != nullptr;
  }

  // The index in graph_ of a value.
  int ValueOf(const MxnetEntry& entry) {
    const auto found = values_.find({entry.node, entry.output});
    if (found != values_.end()) return found->second;
    const MxnetNode& node = symbol_.nodes[entry.node];
    ForeignNode value;
    value.name = node.name;
    if (node.op == "null") {
      if (has_input_) Fail(node, "is a second input; networks with one are read");
      has_input_ = true;
      value.op = ForeignOp::kInput;
      value.foreign_op = "input";
    } else if (IsSplit(node)) {
      value = SplitPart(node, entry.output);
    } else {
      value.foreign_op = fmt::format("{}, output {}", node.op, entry.output);
    }
    return Append({entry.node, entry.output}, std::move(value));
  }

  int Append(std::pair<std::size_t, std::size_t> key, ForeignNode node) {
    graph_.nodes.push_back(std::move(node));
    return values_[key] = static_cast<int>(graph_.nodes.size()) - 1;
  }

  void Convert(std::size_t index) {
    const MxnetNode& node = symbol_.nodes[index];
    if (IsSplit(node)) return;  // its parts come when they are used
    ForeignNode converted;
    converted.name = node.name;
    converted.foreign_op = node.op;
    Translate(node, &converted);
    Append({index, 0}, std::move(converted));
  }

  int Data(const MxnetNode& node, std::size_t index = 0) {
    if (index >= node.inputs.size()) Fail(node, fmt::format("has no input {}", index));
    return ValueOf(node.inputs[index]);
  }

  static bool IsSplit(const MxnetNode& node) {
    return node.op == "SliceChannel" || node.op == "split";
  }

  ForeignNode SplitPart(const MxnetNode& node, std::size_t output) {
    const AttributeReader read(node);
    ForeignNode part;
    part.name = fmt::format("{}[{}]", node.name, output);
    part.foreign_op = node.op;
    part.inputs = {Data(node)};
    part.op = read.Bool("squeeze_axis", false) ? ForeignOp::kOther : ForeignOp::kSlice;
    part.axis = read.Integer("axis", 1);
    part.part = static_cast<std::int64_t>(std::min<std::size_t>(output, 1U << 30));
    part.parts = read.Integer("num_outputs", 1);
    return part;
  }

  using Translator = void (MxnetConverter::*)(const MxnetNode&, ForeignNode*);

  static const std::map<std::string, Translator>& Translators() {
    using C = MxnetConverter;
    static const std::map<std::string, Translator> translators = {
        {"Convolution", &C::Conv},
        {"Convolution_v1", &C::Conv},
        {"BatchNorm", &C::BatchNorm},
        {"BatchNorm_v1", &C::BatchNorm},
        {"CuDNNBatchNorm", &C::BatchNorm},
        {"_contrib_SyncBatchNorm", &C::BatchNorm},
        {"FullyConnected", &C::FullyConnected},
        {"LeakyReLU", &C::LeakyRelu},
        {"Activation", &C::Activation},
        {"relu", &C::Simple<ForeignOp::kRelu>},
        {"sigmoid", &C::Simple<ForeignOp::kSigmoid>},
        {"clip", &C::Clip},
        {"Pooling", &C::Pooling},
        {"Pooling_v1", &C::Pooling},
        {"Flatten", &C::Simple<ForeignOp::kFlatten>},
        {"flatten", &C::Simple<ForeignOp::kFlatten>},
        {"Reshape", &C::Reshape},
        {"reshape", &C::Reshape},
        {"Dropout", &C::Simple<ForeignOp::kIdentity>},
        {"identity", &C::Simple<ForeignOp::kIdentity>},
        {"_copy", &C::Simple<ForeignOp::kIdentity>},
        {"BlockGrad", &C::Simple<ForeignOp::kIdentity>},
        {"Cast", &C::Simple<ForeignOp::kIdentity>},
        {"cast", &C::Simple<ForeignOp::kIdentity>},
        {"amp_cast", &C::Simple<ForeignOp::kIdentity>},
        {"elemwise_add", &C::Elementwise<ForeignOp::kAdd>},
        {"broadcast_add", &C::Elementwise<ForeignOp::kAdd>},
        {"broadcast_plus", &C::Elementwise<ForeignOp::kAdd>},
        {"_Plus", &C::Elementwise<ForeignOp::kAdd>},
        {"_plus", &C::Elementwise<ForeignOp::kAdd>},
        {"_add", &C::Elementwise<ForeignOp::kAdd>},
        {"add_n", &C::Elementwise<ForeignOp::kAdd>},
        {"ElementWiseSum", &C::Elementwise<ForeignOp::kAdd>},
        {"elemwise_mul", &C::Elementwise<ForeignOp::kMultiply>},
        {"broadcast_mul", &C::Elementwise<ForeignOp::kMultiply>},
        {"_Mul", &C::Elementwise<ForeignOp::kMultiply>},
        {"_mul", &C::Elementwise<ForeignOp::kMultiply>},
        {"elemwise_sub", &C::Elementwise<ForeignOp::kSubtract>},
        {"broadcast_sub", &C::Elementwise<ForeignOp::kSubtract>},
        {"broadcast_minus", &C::Elementwise<ForeignOp::kSubtract>},
        {"_Minus", &C::Elementwise<ForeignOp::kSubtract>},
        {"_minus", &C::Elementwise<ForeignOp::kSubtract>},
        {"_plus_scalar", &C::Scalar<ForeignOp::kAdd>},
        {"_PlusScalar", &C::Scalar<ForeignOp::kAdd>},
        {"_minus_scalar", &C::Scalar<ForeignOp::kSubtract>},
        {"_MinusScalar", &C::Scalar<ForeignOp::kSubtract>},
        {"_rminus_scalar", &C::ScalarMinus},
        {"_RMinusScalar", &C::ScalarMinus},
        {"_mul_scalar", &C::Scalar<ForeignOp::kMultiply>},
        {"_MulScalar", &C::Scalar<ForeignOp::kMultiply>},
        {"_div_scalar", &C::DivideByScalar},
        {"_DivScalar", &C::DivideByScalar},
        {"Concat", &C::Concat},
        {"concat", &C::Concat},
        {"slice_axis", &C::SliceAxis},
        {"softmax", &C::Softmax},
        {"SoftmaxActivation", &C::Softmax},
        {"SoftmaxOutput", &C::Softmax},
        {"transpose", &C::Transpose},
        {"LayerNorm", &C::LayerNorm}};
    return translators;
  }

  void Translate(const MxnetNode& node, ForeignNode* out) {
    const auto found = Translators().find(node.op);
    if (found != Translators().end()) return (this->*found->second)(node, out);
    // Its place in the graph is kept, for messages that name it.
    for (const MxnetEntry& input : node.inputs) {
      if (!IsParameter(input)) out->inputs.push_back(ValueOf(input));
    }
  }

  template <ForeignOp op>
  void Simple(const MxnetNode& node, ForeignNode* out) {
    out->op = op;
    out->inputs = {Data(node)};
  }

  void Conv(const MxnetNode& node, ForeignNode* out) {
    const AttributeReader read(node);
    out->inputs = {Data(node)};
    const std::string layout = read.Text("layout", "None");
    if (read.Integers("kernel").size() != 2 || (layout != "None" && layout != "NCHW")) {
      out->foreign_op +=
          fmt::format(" with kernel {} and layout {}", read.Text("kernel", "None"), layout);
      return;
    }
    out->op = ForeignOp::kConv;
    out->kernel = read.Pair("kernel", 1);
    out->stride = read.Pair("stride", 1);
    out->pad_begin = out->pad_end = read.Pair("pad", 0);
    out->dilation = read.Pair("dilate", 1);
    out->groups = read.Integer("num_group", 1);
    out->tensors["weight"] = ParameterAt(node, 1, "_weight");
    if (!read.Bool("no_bias", false)) out->tensors["bias"] = ParameterAt(node, 2, "_bias");
  }

  void BatchNorm(const MxnetNode& node, ForeignNode* out) {
    const AttributeReader read(node);
    out->inputs = {Data(node)};
    out->axis = read.Integer("axis", 1);
    if (out->axis != 1) {
      out->foreign_op += fmt::format(" over axis {}", out->axis);
      return;
    }
    out->op = ForeignOp::kBatchNorm;
    out->epsilon = read.Number("eps", kBatchNormEpsilon);
    out->tensors["bias"] = ParameterAt(node, 2, "_beta");
    out->tensors["running_mean"] = ParameterAt(node, 3, "_moving_mean");
    out->tensors["running_var"] = ParameterAt(node, 4, "_moving_var");
    if (read.Bool("fix_gamma", true)) {
      out->tensors["weight"] = Ones(out->tensors["bias"].numel());
    } else {
      out->tensors["weight"] = ParameterAt(node, 1, "_gamma");
    }
  }

  // Shared by all that need them.
  const HostTensor& Ones(std::int64_t count) {
    HostTensor& ones = ones_[count];
    if (!ones.owner) {
      ones = HostTensor::FromFloats({count},
                                    std::vector<float>(static_cast<std::size_t>(count), 1.0F));
    }
    return ones;
  }

  void FullyConnected(const MxnetNode& node, ForeignNode* out) {
    const AttributeReader read(node);
    out->op = ForeignOp::kLinear;
    out->inputs = {Data(node)};
    out->tensors["weight"] = ParameterAt(node, 1, "_weight");
    if (!read.Bool("no_bias", false)) out->tensors["bias"] = ParameterAt(node, 2, "_bias");
  }

  void LeakyRelu(const MxnetNode& node, ForeignNode* out) {
    const std::string type = AttributeReader(node).Text("act_type", "leaky");
    out->inputs = {Data(node)};
    out->foreign_op += " " + type;
    if (type != "prelu") return;
    out->op = ForeignOp::kPRelu;
    out->tensors["slope"] = ParameterAt(node, 1, "_gamma");
  }

  void Activation(const MxnetNode& node, ForeignNode* out) {
    const std::string type = AttributeReader(node).Text("act_type", "");
    out->inputs = {Data(node)};
    out->foreign_op += " " + type;
    if (type == "relu") out->op = ForeignOp::kRelu;
    if (type == "sigmoid") out->op = ForeignOp::kSigmoid;
  }

  void Clip(const MxnetNode& node, ForeignNode* out) {
    const AttributeReader read(node);
    Simple<ForeignOp::kClip>(node, out);
    out->clip_min = read.Number("a_min", 0);
    out->clip_max = read.Number("a_max", 0);
  }

  void Pooling(const MxnetNode& node, ForeignNode* out) {
    const AttributeReader read(node);
    out->inputs = {Data(node)};
    const std::string type = read.Text("pool_type", "max");
    const bool global = read.Bool("global_pool", false);
    const std::string convention = read.Text("pooling_convention", "valid");
    out->foreign_op += fmt::format(" {}{}", global ? "global " : "", type);
    if (global) {
      if (type == "avg") out->op = ForeignOp::kGlobalAveragePool;
      return;
    }
    if (read.Integers("kernel").size() != 2 || convention == "same") return;
    if (type == "max") out->op = ForeignOp::kMaxPool;
    if (type == "avg") out->op = ForeignOp::kAveragePool;
    out->kernel = read.Pair("kernel", 1);
    out->stride = read.Pair("stride", 1);
    out->pad_begin = out->pad_end = read.Pair("pad", 0);
    out->ceil_mode = convention == "full";
    out->count_padding = read.Bool("count_include_pad", true);
  }

  void Reshape(const MxnetNode& node, ForeignNode* out) {
    const AttributeReader read(node);
    out->inputs = {Data(node)};
    const std::vector<std::int64_t> shape = read.Integers("shape");
    if (shape.size() == 2 && !read.Bool("reverse", false)) {
      out->op = ForeignOp::kFlatten;
    } else {
      out->foreign_op += " to " + read.Text("shape", "None");
    }
  }

  template <ForeignOp op>
  void Elementwise(const MxnetNode& node, ForeignNode* out) {
    if (node.inputs.size() != 2) {
      out->foreign_op += fmt::format(" of {} inputs", node.inputs.size());
      return;
    }
    out->op = op;
    for (std::size_t i = 0; i < 2; ++i) {
      if (IsParameter(node.inputs[i]) && out->tensors.empty()) {
        out->tensors["constant"] = Parameter(node, symbol_.nodes[node.inputs[i].node].name);
        out->constant_first = i == 0;
      } else {
        out->inputs.push_back(ValueOf(node.inputs[i]));
      }
    }
    if (op != ForeignOp::kSubtract) out->constant_first = false;
  }

  void SetScalar(const MxnetNode& node, ForeignOp op, double scalar, ForeignNode* out) {
    out->op = op;
    out->inputs = {Data(node)};
    out->tensors["constant"] = HostTensor::FromFloats({}, {static_cast<float>(scalar)});
  }

  template <ForeignOp op>
  void Scalar(const MxnetNode& node, ForeignNode* out) {
    SetScalar(node, op, AttributeReader(node).Number("scalar", 0), out);
  }

  void ScalarMinus(const MxnetNode& node, ForeignNode* out) {
    Scalar<ForeignOp::kSubtract>(node, out);
    out->constant_first = true;
  }

  void DivideByScalar(const MxnetNode& node, ForeignNode* out) {
    const double scalar = AttributeReader(node).Number("scalar", 0);
    if (scalar == 0) Fail(node, "divides by zero");
    SetScalar(node, ForeignOp::kMultiply, 1 / scalar, out);
  }

  void Concat(const MxnetNode& node, ForeignNode* out) {
    out->op = ForeignOp::kConcat;
    out->axis = AttributeReader(node).Integer("dim", 1);
    for (const MxnetEntry& input : node.inputs) out->inputs.push_back(ValueOf(input));
  }

  void SliceAxis(const MxnetNode& node, ForeignNode* out) {
    const AttributeReader read(node);
    Simple<ForeignOp::kSlice>(node, out);
    out->axis = read.Integer("axis", 0);
    out->begin = read.Integer("begin", 0);
    out->end = read.Integer("end", std::numeric_limits<std::int64_t>::max());
  }

  void Softmax(const MxnetNode& node, ForeignNode* out) {
    Simple<ForeignOp::kSoftmax>(node, out);
    out->axis = AttributeReader(node).Integer("axis", -1);
  }

  void Transpose(const MxnetNode& node, ForeignNode* out) {
    Simple<ForeignOp::kTranspose>(node, out);
    out->permutation = AttributeReader(node).Integers("axes");
  }

  void LayerNorm(const MxnetNode& node, ForeignNode* out) {
    const AttributeReader read(node);
    Simple<ForeignOp::kLayerNorm>(node, out);
    out->axis = read.Integer("axis", -1);
    out->epsilon = read.Number("eps", kLayerNormEpsilon);
    out->tensors["weight"] = ParameterAt(node, 1, "_gamma");
    out->tensors["bias"] = ParameterAt(node, 2, "_beta");
  }

  const MxnetSymbol& symbol_;
  const HostTensors& params_;
  ForeignGraph graph_;
  std::map<std::pair<std::size_t, std::size_t>, int> values_;
  std::map<std::int64_t, HostTensor> ones_;
  bool has_input_ = false;
};

}  // namespace

ForeignGraph FromMxnet(const MxnetSymbol& symbol, const HostTensors& params) {
  return MxnetConverter(symbol, params).Run();
}

}  // namespace fr
