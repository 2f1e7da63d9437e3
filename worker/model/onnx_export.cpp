#include "worker/model/onnx_export.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/version.h"
#include "proto/onnx.pb.h"

namespace fr {
namespace {

using onnx::AttributeProto;
using onnx::NodeProto;
using onnx::TensorProto;
using Integers = std::vector<std::int64_t>;

constexpr const char* kInputName = "input.1";
constexpr const char* kOutputName = "embedding";
constexpr const char* kBatchDimension = "batch";

struct OperatorSet {
  std::int64_t version = 0;
  std::int64_t ir_version = 0;  // the first that goes with it
};
constexpr OperatorSet kPlain = {11, 6};
constexpr OperatorSet kWithLayerNorm = {17, 8};

void AddAttribute(NodeProto* node, const char* name, std::int64_t value) {
  AttributeProto* attribute = node->add_attribute();
  attribute->set_name(name);
  attribute->set_type(AttributeProto::INT);
  attribute->set_i(value);
}

void AddAttribute(NodeProto* node, const char* name, double value) {
  AttributeProto* attribute = node->add_attribute();
  attribute->set_name(name);
  attribute->set_type(AttributeProto::FLOAT);
  attribute->set_f(static_cast<float>(value));
}

void AddAttribute(NodeProto* node, const char* name, const Integers& values) {
  AttributeProto* attribute = node->add_attribute();
  attribute->set_name(name);
  attribute->set_type(AttributeProto::INTS);
  attribute->mutable_ints()->Assign(values.begin(), values.end());
}

void AddWindow(NodeProto* node, const Window& window) {
  AddAttribute(node, "kernel_shape", Integers(window.kernel.begin(), window.kernel.end()));
  AddAttribute(node, "strides", Integers(window.stride.begin(), window.stride.end()));
  const auto [height, width] = window.padding;
  AddAttribute(node, "pads", Integers{height, width, height, width});
}

void SetValueInfo(onnx::ValueInfoProto* info, const char* name, const Integers& shape) {
  info->set_name(name);
  auto* tensor = info->mutable_type()->mutable_tensor_type();
  tensor->set_elem_type(TensorProto::FLOAT);
  tensor->mutable_shape()->add_dim()->set_dim_param(kBatchDimension);
  for (const std::int64_t size : shape) tensor->mutable_shape()->add_dim()->set_dim_value(size);
}

class OnnxWriter {
 public:
  OnnxWriter(const Graph& graph, const TensorSource& tensors, const ModelInfo& info,
             const OnnxOptions& options)
      : graph_(graph), tensors_(tensors), info_(info), options_(options) {
    for (int i = 0; i <= graph.output(); ++i) values_.push_back(ValueName(i));
    FindFoldedNorms();
  }

  std::string Write() {
    WriteHeader();
    SetValueInfo(out().add_input(), kInputName, graph_.node(0).shape);
    SetValueInfo(out().add_output(), kOutputName, graph_.nodes().back().shape);
    if (info_.preprocessing != Preprocessing()) WritePreprocessing();
    for (int i = 1; i <= graph_.output(); ++i) WriteNode(i);
    if (model_.ByteSizeLong() > std::numeric_limits<std::int32_t>::max()) {
      throw Error(ErrorCode::kInvalidArgument,
                  "the model has more than 2 GiB, which an ONNX file cannot hold; export it as "
                  "TorchScript (.pt) or safetensors");
    }
    return model_.SerializeAsString();
  }

 private:
  onnx::GraphProto& out() { return *model_.mutable_graph(); }

  std::string ValueName(int i) const {
    if (i == 0) return kInputName;
    if (i == graph_.output()) return kOutputName;
    return graph_.node(i).name + ".out";
  }
  const std::string& Value(int i) const { return values_[static_cast<std::size_t>(i)]; }

  void WriteHeader() {
    const auto& nodes = graph_.nodes();
    const bool layer_norm = std::any_of(nodes.begin(), nodes.end(),
                                        [](const Node& node) { return node.op == Op::kLayerNorm; });
    const OperatorSet set = layer_norm ? kWithLayerNorm : kPlain;
    model_.set_ir_version(set.ir_version);
    model_.set_producer_name("fr");
    model_.set_producer_version(kVersion);
    model_.add_opset_import()->set_version(set.version);
    model_.mutable_opset_import(0)->set_domain("");
    Metadata metadata = ToMetadata(info_);
    metadata[kOnnxBatchNorms] = folded_into_.empty() ? kOnnxBatchNormsKept : "folded";
    for (const auto& [key, value] : metadata) {
      auto* entry = model_.add_metadata_props();
      entry->set_key(key);
      entry->set_value(value);
    }
    out().set_name(Network_Name(info_.spec.network()));
  }

  // A convolution whose value is read by a batch norm alone.
  void FindFoldedNorms() {
    if (!options_.fold) return;
    const std::vector<int> uses = graph_.UseCounts();
    for (int i = 1; i <= graph_.output(); ++i) {
      if (graph_.node(i).op != Op::kBatchNorm) continue;
      const int before = graph_.node(i).inputs[0];
      if (graph_.node(before).op != Op::kConv || uses[static_cast<std::size_t>(before)] != 1) {
        continue;
      }
      folded_into_[i] = before;
      folded_norm_[before] = i;
      values_[static_cast<std::size_t>(before)] = Value(i);
    }
  }

  NodeProto* Add(const char* op, const std::string& name, std::vector<std::string> inputs,
                 const std::string& output) {
    NodeProto* node = out().add_node();
    node->set_op_type(op);
    node->set_name(name);
    for (std::string& input : inputs) node->add_input(std::move(input));
    node->add_output(output);
    return node;
  }

  // The name, for a node's input.
  std::string AddTensor(const std::string& name, TensorProto::DataType type, const Integers& shape,
                        const void* data, std::size_t bytes) {
    if (!initializers_.insert(name).second) return name;
    TensorProto* tensor = out().add_initializer();
    tensor->set_name(name);
    tensor->set_data_type(type);
    tensor->mutable_dims()->Assign(shape.begin(), shape.end());
    tensor->set_raw_data(data, bytes);
    return name;
  }

  std::string AddFloats(const std::string& name, const Integers& shape,
                        const std::vector<float>& values) {
    return AddTensor(name, TensorProto::FLOAT, shape, values.data(), values.size() * sizeof(float));
  }

  std::string AddScalar(const std::string& name, double value) {
    return AddFloats(name, {}, {static_cast<float>(value)});
  }

  std::string AddIntegers(const std::string& name, const Integers& values) {
    return AddTensor(name, TensorProto::INT64, {static_cast<std::int64_t>(values.size())},
                     values.data(), values.size() * sizeof(std::int64_t));
  }

  std::string AddParameter(const Parameter& parameter, const Integers& shape) {
    const HostTensor tensor = tensors_(parameter.name);
    return AddTensor(parameter.name, TensorProto::FLOAT, shape, tensor.bytes.data(),
                     tensor.bytes.size());
  }
  std::string AddParameter(const Parameter& parameter) {
    return AddParameter(parameter, parameter.shape);
  }

  void WritePreprocessing() {
    // By these names they are recognised.
    Add("Sub", "Sub_pixels", {kInputName, AddScalar("pixel_mean", info_.preprocessing.mean)},
        "pixels.centred");
    Add("Mul", "Mul_pixels",
        {"pixels.centred", AddScalar("pixel_scale", 1 / info_.preprocessing.std)}, "pixels.scaled");
    values_[0] = "pixels.scaled";
  }

  void WriteNode(int i) {
    const Node& node = graph_.node(i);
    const std::string& x = Value(node.inputs.at(0));
    const std::string& y = Value(i);
    switch (node.op) {
      case Op::kInput:
        throw Error(ErrorCode::kInternal, "a second input");
      case Op::kConv:
        return WriteConv(i);
      case Op::kBatchNorm:
        return WriteBatchNorm(i);
      case Op::kLayerNorm: {
        NodeProto* norm =
            Add("LayerNormalization", node.name,
                {x, AddParameter(node.parameters[0]), AddParameter(node.parameters[1])}, y);
        AddAttribute(norm, "axis", std::int64_t{-1});
        AddAttribute(norm, "epsilon", node.epsilon);
        return;
      }
      case Op::kPRelu: {
        Integers slopes(node.shape.size(), 1);  // for the channels, which come first
        slopes[0] = node.weight().numel();
        Add("PRelu", node.name, {x, AddParameter(node.weight(), slopes)}, y);
        return;
      }
      case Op::kRelu:
        Add("Relu", node.name, {x}, y);
        return;
      case Op::kRelu6:
        Add("Clip", node.name, {x, AddScalar("relu6.low", 0), AddScalar("relu6.high", 6)}, y);
        return;
      case Op::kSigmoid:
        Add("Sigmoid", node.name, {x}, y);
        return;
      case Op::kAdd:
        return WriteAdd(i);
      case Op::kMultiply:
        Add("Mul", node.name, {x, Value(node.inputs[1])}, y);
        return;
      case Op::kConcat: {
        std::vector<std::string> parts;
        for (const int input : node.inputs) parts.push_back(Value(input));
        AddAttribute(Add("Concat", node.name, std::move(parts), y), "axis", std::int64_t{1});
        return;
      }
      case Op::kSlice:
        Add("Slice", node.name,
            {x, AddIntegers(node.name + ".begin", {node.begin}),
             AddIntegers(node.name + ".end", {node.end}), AddIntegers("channels", {1})},
            y);
        return;
      case Op::kMaxPool:
      case Op::kAveragePool:
        return WritePool(i);
      case Op::kGlobalAveragePool:
        Add("GlobalAveragePool", node.name, {x}, y);
        return;
      case Op::kFlatten:
        AddAttribute(Add("Flatten", node.name, {x}, y), "axis", std::int64_t{1});
        return;
      case Op::kLinear:
        return WriteLinear(i);
      case Op::kTokens:
        return WriteTokens(i);
      case Op::kAddPositions:
        Add("Add", node.name, {x, AddParameter(node.weight())}, y);
        return;
      case Op::kAttention:
        return WriteAttention(i);
      case Op::kDropout:
      case Op::kDropPath:
      case Op::kHideTokens:
      case Op::kRestoreTokens:
        // Nothing outside of training. The output is never one of them.
        values_[static_cast<std::size_t>(i)] = x;
        return;
    }
  }

  // Scale and offset of a batch norm: y = scale x + offset.
  struct Affine {
    std::vector<double> scale;
    std::vector<double> offset;
  };

  Affine AffineOf(const Node& norm) const {
    Affine affine;
    std::vector<HostTensor> p;
    for (std::size_t i = 0; i < 4; ++i) p.push_back(tensors_(norm.parameters[i].name).ToFloat32());
    for (std::size_t c = 0; c < p[0].floats().size(); ++c) {
      const double deviation = std::sqrt(static_cast<double>(p[3].floats()[c]) + norm.epsilon);
      affine.scale.push_back(p[0].floats()[c] / deviation);
      affine.offset.push_back(p[1].floats()[c] - p[2].floats()[c] * affine.scale[c]);
    }
    return affine;
  }

  void WriteConv(int i) {
    const Node& node = graph_.node(i);
    const auto norm = folded_norm_.find(i);
    std::vector<std::string> inputs = {Value(node.inputs[0])};
    if (norm == folded_norm_.end()) {
      for (const Parameter& parameter : node.parameters) inputs.push_back(AddParameter(parameter));
    } else {
      AddFoldedParameters(node, AffineOf(graph_.node(norm->second)), &inputs);
    }
    NodeProto* conv = Add("Conv", node.name, std::move(inputs), Value(i));
    AddWindow(conv, node.window);
    AddAttribute(conv, "dilations", Integers{1, 1});
    AddAttribute(conv, "group", node.groups);
  }

  void AddFoldedParameters(const Node& conv, const Affine& affine,
                           std::vector<std::string>* inputs) {
    const HostTensor weight = tensors_(conv.weight().name).ToFloat32();
    std::vector<float> scaled(weight.floats().begin(), weight.floats().end());
    const std::size_t row = scaled.size() / affine.scale.size();
    for (std::size_t k = 0; k < scaled.size(); ++k) {
      scaled[k] = static_cast<float>(scaled[k] * affine.scale[k / row]);
    }
    std::vector<float> bias(affine.offset.begin(), affine.offset.end());
    if (conv.has_bias()) {
      const HostTensor own = tensors_(conv.parameters[1].name).ToFloat32();
      for (std::size_t c = 0; c < bias.size(); ++c) {
        bias[c] = static_cast<float>(own.floats()[c] * affine.scale[c] + affine.offset[c]);
      }
    }
    inputs->push_back(AddFloats(conv.weight().name, conv.weight().shape, scaled));
    inputs->push_back(
        AddFloats(conv.name + ".bias", {static_cast<std::int64_t>(bias.size())}, bias));
  }

  void WriteBatchNorm(int i) {
    if (folded_into_.count(i) != 0) return;
    const Node& node = graph_.node(i);
    std::vector<std::string> inputs = {Value(node.inputs[0])};
    for (std::size_t k = 0; k < 4; ++k) inputs.push_back(AddParameter(node.parameters[k]));
    AddAttribute(Add("BatchNormalization", node.name, std::move(inputs), Value(i)), "epsilon",
                 node.epsilon);
  }

  void WriteAdd(int i) {
    const Node& node = graph_.node(i);
    std::string other = Value(node.inputs[1]);
    if (node.factor != 1) {
      const std::string scaled = node.name + ".scaled";
      Add("Mul", node.name + ".scale", {other, AddScalar(node.name + ".factor", node.factor)},
          scaled);
      other = scaled;
    }
    Add("Add", node.name, {Value(node.inputs[0]), other}, Value(i));
  }

  void WritePool(int i) {
    const Node& node = graph_.node(i);
    const bool average = node.op == Op::kAveragePool;
    NodeProto* pool =
        Add(average ? "AveragePool" : "MaxPool", node.name, {Value(node.inputs[0])}, Value(i));
    AddWindow(pool, node.window);
    AddAttribute(pool, "ceil_mode", std::int64_t{node.ceil_mode});
    if (average) AddAttribute(pool, "count_include_pad", std::int64_t{node.count_padding});
  }

  void WriteLinear(int i) {
    const Node& node = graph_.node(i);
    const std::string& x = Value(node.inputs[0]);
    const std::string weight = AddParameter(node.weight());
    if (node.shape.size() == 1) {
      std::vector<std::string> inputs = {x, weight};
      if (node.has_bias()) inputs.push_back(AddParameter(node.parameters[1]));
      AddAttribute(Add("Gemm", node.name, std::move(inputs), Value(i)), "transB", std::int64_t{1});
      return;
    }
    const std::string transposed = node.name + ".transposed";
    AddAttribute(Add("Transpose", node.name + ".transpose", {weight}, transposed), "perm",
                 Integers{1, 0});
    const std::string product = node.has_bias() ? node.name + ".product" : Value(i);
    Add("MatMul", node.name, {x, transposed}, product);
    if (node.has_bias()) {
      Add("Add", node.name + ".add_bias", {product, AddParameter(node.parameters[1])}, Value(i));
    }
  }

  // In a shape, 0 keeps the batch dimension.
  void WriteTokens(int i) {
    const Node& node = graph_.node(i);  // [t, d]
    const std::string flat = node.name + ".flat";
    Add("Reshape", node.name + ".flatten",
        {Value(node.inputs[0]),
         AddIntegers(node.name + ".shape", {0, node.shape[1], node.shape[0]})},
        flat);
    AddAttribute(Add("Transpose", node.name, {flat}, Value(i)), "perm", Integers{0, 2, 1});
  }

  // softmax(q k^T / sqrt(d)) v for each head, in operators that every runtime has.
  void WriteAttention(int i) {
    const Node& node = graph_.node(i);
    const std::int64_t tokens = node.shape[0];
    const std::int64_t head_size = node.shape[1] / node.heads;
    const auto name = [&node](const char* part) { return node.name + "." + part; };
    Add("Reshape", name("split"),
        {Value(node.inputs[0]), AddIntegers(name("shape"), {0, tokens, 3, node.heads, head_size})},
        name("parts"));
    AddAttribute(Add("Transpose", name("by_head"), {name("parts")}, name("qkv")), "perm",
                 Integers{2, 0, 3, 1, 4});
    std::int64_t part = 0;
    for (const char* const which : {"query", "key", "value"}) {
      const std::string index = name(which) + ".index";
      AddTensor(index, TensorProto::INT64, {}, &part, sizeof(part));
      AddAttribute(Add("Gather", name(which) + ".take", {name("qkv"), index}, name(which)), "axis",
                   std::int64_t{0});
      ++part;
    }
    const double scale = 1 / std::sqrt(static_cast<double>(head_size));
    Add("Mul", name("scale"), {name("query"), AddScalar(name("factor"), scale)}, name("scaled"));
    AddAttribute(Add("Transpose", name("turn"), {name("key")}, name("turned")), "perm",
                 Integers{0, 1, 3, 2});
    Add("MatMul", name("scores"), {name("scaled"), name("turned")}, name("scores.out"));
    AddAttribute(Add("Softmax", name("softmax"), {name("scores.out")}, name("weights")), "axis",
                 std::int64_t{3});
    Add("MatMul", name("mix"), {name("weights"), name("value")}, name("mixed"));
    AddAttribute(Add("Transpose", name("by_token"), {name("mixed")}, name("joined")), "perm",
                 Integers{0, 2, 1, 3});
    Add("Reshape", name("join"),
        {name("joined"), AddIntegers(name("out_shape"), {0, tokens, node.shape[1]})}, Value(i));
  }

  const Graph& graph_;
  const TensorSource& tensors_;
  const ModelInfo& info_;
  const OnnxOptions& options_;
  onnx::ModelProto model_;
  std::vector<std::string> values_;  // names, by node
  std::map<int, int> folded_into_;   // batch norm -> convolution
  std::map<int, int> folded_norm_;   // and back
  std::set<std::string> initializers_;
};

}  // namespace

std::string ToOnnx(const Graph& graph, const TensorSource& tensors, const ModelInfo& info,
                   const OnnxOptions& options) {
  return OnnxWriter(graph, tensors, info, options).Write();
}

}  // namespace fr
