#include "worker/weights/onnx_file.h"

#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "proto/onnx.pb.h"
#include "tests/python.h"
#include "tests/worker/weights/damage.h"
#include "worker/weights/foreign_graph.h"

namespace fr {
namespace {

using onnx::ModelProto;
using onnx::TensorProto;

std::vector<float> Floats(const HostTensor* tensor) {
  if (tensor == nullptr) return {};
  const HostTensor floats = tensor->ToFloat32();
  return {floats.floats().begin(), floats.floats().end()};
}

// A model of one Relu.
ModelProto SmallModel() {
  ModelProto model;
  model.set_ir_version(8);
  model.add_opset_import()->set_version(13);
  auto* metadata = model.add_metadata_props();
  metadata->set_key("network");
  metadata->set_value("r50");
  model.mutable_graph()->add_input()->set_name("x");
  model.mutable_graph()->add_output()->set_name("y");
  auto* node = model.mutable_graph()->add_node();
  node->set_op_type("Relu");
  node->add_input("x");
  node->add_output("y");
  return model;
}

TensorProto* AddTensor(ModelProto* model, const std::string& name, int type,
                       const std::vector<std::int64_t>& dims) {
  TensorProto* tensor = model->mutable_graph()->add_initializer();
  tensor->set_name(name);
  tensor->set_data_type(type);
  for (const std::int64_t dim : dims) tensor->add_dims(dim);
  return tensor;
}

class OnnxFile : public testing::Test {
 protected:
  OnnxModel Write(const ModelProto& model) {
    WriteBytes(path_, model.SerializeAsString());
    return ReadOnnx(path_);
  }

  // Refused, with `part` in the message.
  void ExpectRefused(const ModelProto& model, const char* part) {
    std::string message;
    EXPECT_EQ(CodeOf([&] { Write(model); }, &message), ErrorCode::kDataLoss) << part;
    EXPECT_NE(message.find(part), std::string::npos) << message;
    EXPECT_NE(message.find("net.onnx"), std::string::npos) << message;
  }

  TemporaryDirectory directory_;
  std::filesystem::path path_ = directory_.path() / "net.onnx";
};

TEST_F(OnnxFile, ReadsTensorsFromEveryField) {
  ModelProto model = SmallModel();
  AddTensor(&model, "raw", TensorProto::FLOAT, {2})->set_raw_data("\0\0\x80\x3f\0\0\0\x40", 8);
  AddTensor(&model, "raw_half", TensorProto::FLOAT16, {1})->set_raw_data("\0\x3c", 2);
  AddTensor(&model, "float", TensorProto::FLOAT, {1, 1})->add_float_data(1.5F);
  AddTensor(&model, "double", TensorProto::DOUBLE, {1})->add_double_data(0.25);
  AddTensor(&model, "half", TensorProto::FLOAT16, {1})->add_int32_data(0xc000);
  AddTensor(&model, "bf16", TensorProto::BFLOAT16, {1})->add_int32_data(0x3f80);
  AddTensor(&model, "int8", TensorProto::INT8, {1})->add_int32_data(-5);
  AddTensor(&model, "uint8", TensorProto::UINT8, {1})->add_int32_data(255);
  AddTensor(&model, "bool", TensorProto::BOOL, {1})->add_int32_data(1);
  AddTensor(&model, "int32", TensorProto::INT32, {1})->add_int32_data(-7);
  AddTensor(&model, "int64", TensorProto::INT64, {})->add_int64_data(-8);
  AddTensor(&model, "uint32", TensorProto::UINT32, {1})->add_uint64_data(9);
  AddTensor(&model, "uint64", TensorProto::UINT64, {1})->add_uint64_data(10);
  AddTensor(&model, "empty", TensorProto::FLOAT, {0});
  const OnnxModel read = Write(model);
  EXPECT_EQ(read.opset, 13);
  EXPECT_EQ(read.metadata.at("network"), "r50");
  EXPECT_EQ(Floats(read.initializers.Find("raw")), (std::vector<float>{1, 2}));
  EXPECT_EQ(Floats(read.initializers.Find("raw_half")), (std::vector<float>{1}));
  EXPECT_EQ(Floats(read.initializers.Find("float")), (std::vector<float>{1.5}));
  EXPECT_EQ(Floats(read.initializers.Find("double")), (std::vector<float>{0.25}));
  EXPECT_EQ(Floats(read.initializers.Find("half")), (std::vector<float>{-2}));
  EXPECT_EQ(Floats(read.initializers.Find("bf16")), (std::vector<float>{1}));
  EXPECT_EQ(Floats(read.initializers.Find("int8")), (std::vector<float>{-5}));
  EXPECT_EQ(Floats(read.initializers.Find("uint8")), (std::vector<float>{255}));
  EXPECT_EQ(Floats(read.initializers.Find("bool")), (std::vector<float>{1}));
  EXPECT_EQ(Floats(read.initializers.Find("int32")), (std::vector<float>{-7}));
  EXPECT_EQ(Floats(read.initializers.Find("int64")), (std::vector<float>{-8}));
  EXPECT_EQ(Floats(read.initializers.Find("uint32")), (std::vector<float>{9}));
  EXPECT_EQ(Floats(read.initializers.Find("uint64")), (std::vector<float>{10}));
  EXPECT_EQ(read.initializers.Find("empty")->numel(), 0);
}

// The bytes are the format's own: PyTorch's exporter, which has its own copy of the messages,
// writes what we read.
TEST_F(OnnxFile, ReadsWhatPyTorchWrites) {
  RunPython(directory_.path(), R"(
import torch, warnings
from torch.onnx._internal.torchscript_exporter import onnx_proto_utils
warnings.simplefilter('ignore')
# The one step that would need the onnx package; it does nothing without custom operators.
onnx_proto_utils._add_onnxscript_fn = lambda model_bytes, custom_opsets: model_bytes
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, 2, 1, bias=False)
        self.bn = torch.nn.BatchNorm2d(4)
        self.prelu = torch.nn.PReLU(4)
        self.fc = torch.nn.Linear(16, 2)
        with torch.no_grad():
            self.prelu.weight.copy_(torch.tensor([1., 2., 3., 4.]))
            self.fc.bias.copy_(torch.tensor([5., 6.]))
    def forward(self, x):
        return self.fc(torch.flatten(self.prelu(self.bn(self.conv(x))), 1))
torch.onnx.export(Net().eval(), torch.zeros(1, 3, 4, 4), 'net.onnx', dynamo=False)
)");
  const ForeignGraph graph = FromOnnx(ReadOnnx(path_));
  const ForeignNode& fc = graph.node(graph.output);
  EXPECT_EQ(fc.op, ForeignOp::kLinear);
  EXPECT_EQ(Floats(fc.tensor("bias")), (std::vector<float>{5, 6}));
  EXPECT_EQ(fc.tensor("weight")->shape, (std::vector<std::int64_t>{2, 16}));
  const ForeignNode& prelu = graph.node(graph.node(fc.inputs[0]).inputs[0]);
  EXPECT_EQ(Floats(prelu.tensor("slope")), (std::vector<float>{1, 2, 3, 4}));
  // The exporter folded the batch norm into the convolution.
  const ForeignNode& conv = graph.node(prelu.inputs[0]);
  EXPECT_EQ(conv.op, ForeignOp::kConv);
  EXPECT_NE(conv.tensor("bias"), nullptr);
  EXPECT_EQ(conv.stride, (std::array<std::int64_t, 2>{2, 2}));
  const auto read = [](const std::filesystem::path& path) {
    try {
      FromOnnx(ReadOnnx(path));
    } catch (const Error& error) {
      // The graph does not know its file.
      throw Error(error.code(), path.string() + error.what());
    }
  };
  ExpectBearsDamage(path_, read, /*needs_end=*/false, 2000, /*step=*/11);
}

TEST_F(OnnxFile, ExternalDataOnlyFromItsOwnDirectory) {
  WriteBytes(directory_.path() / "weights.bin", std::string("\0\0\0\0\0\0\x80\x3f", 8));
  WriteBytes(directory_.path() / "secret", std::string(8, '\0'));
  std::filesystem::create_symlink(directory_.path() / "secret", directory_.path() / "link");
  const auto with = [](const char* location, const char* offset, const char* length) {
    ModelProto model = SmallModel();
    TensorProto* tensor = AddTensor(&model, "w", TensorProto::FLOAT, {1});
    tensor->set_data_location(TensorProto::EXTERNAL);
    for (const auto& [key, value] : {std::pair{"location", location}, std::pair{"offset", offset},
                                     std::pair{"length", length}}) {
      auto* entry = tensor->add_external_data();
      entry->set_key(key);
      entry->set_value(value);
    }
    return model;
  };
  EXPECT_EQ(Floats(Write(with("weights.bin", "4", "4")).initializers.Find("w")),
            (std::vector<float>{1}));
  ExpectRefused(with("weights.bin", "8", "4"), "which has 8");
  ExpectRefused(with("weights.bin", "18446744073709551615", "4"), "which has 8");
  ExpectRefused(with("weights.bin", "0", "8"), "needs 4 bytes");
  ExpectRefused(with("weights.bin", "-1", "4"), "no offset");
  for (const char* location : {"", "..", "../x", "/etc/passwd", "a/b", "./weights.bin", "link"}) {
    ExpectRefused(with(location, "0", "4"), "own directory");
  }
  EXPECT_EQ(CodeOf([&] { Write(with("absent.bin", "0", "4")); }), ErrorCode::kNotFound);
}

TEST_F(OnnxFile, SaysWhatIsWrongWithAFile) {
  const auto with = [](int type, const std::vector<std::int64_t>& dims, int floats) {
    ModelProto model = SmallModel();
    TensorProto* tensor = AddTensor(&model, "weight7", type, dims);
    for (int i = 0; i < floats; ++i) tensor->add_float_data(0);
    return model;
  };
  ExpectRefused(ModelProto(), "no graph");
  ExpectRefused(with(TensorProto::FLOAT, {3}, 2), "weight7");
  ExpectRefused(with(TensorProto::FLOAT, {3}, 2), "needs 12 bytes, 8 are there");
  ExpectRefused(with(TensorProto::FLOAT, {-1}, 0), "[-1]");
  ExpectRefused(with(TensorProto::FLOAT, {1LL << 40, 1LL << 40}, 0), "impossible");
  ExpectRefused(with(TensorProto::STRING, {1}, 0), "data type 8");
  ExpectRefused(with(99, {1}, 0), "data type 99");
  ModelProto twice = SmallModel();
  AddTensor(&twice, "w", TensorProto::FLOAT, {0});
  AddTensor(&twice, "w", TensorProto::FLOAT, {0});
  ExpectRefused(twice, "twice");
  EXPECT_EQ(CodeOf([&] { ReadOnnx(directory_.path() / "absent.onnx"); }), ErrorCode::kNotFound);
}

// Two bytes in the file, some hundred in memory: counted before they are built.
TEST_F(OnnxFile, SwarmsOfEmptyMessagesAreRefused) {
  const auto wrap = [](char field, const std::string& inner) {
    std::string out(1, static_cast<char>(field << 3 | 2));
    for (std::size_t size = inner.size(); true; size >>= 7) {
      out.push_back(static_cast<char>((size & 0x7f) | (size > 0x7f ? 0x80 : 0)));
      if (size <= 0x7f) return out + inner;
    }
  };
  std::string nodes;
  for (int i = 0; i < 5'000'000; ++i) nodes += std::string("\x0a\0", 2);
  WriteBytes(path_, wrap(7, nodes));
  std::string message;
  EXPECT_EQ(CodeOf([&] { ReadOnnx(path_); }, &message), ErrorCode::kDataLoss);
  EXPECT_NE(message.find("parts"), std::string::npos) << message;
  // An attribute's graph has nodes with attributes.
  std::string nested;
  for (int i = 0; i < 100; ++i) nested = wrap(1, wrap(5, wrap(6, nested)));
  WriteBytes(path_, wrap(7, nested));
  EXPECT_EQ(CodeOf([&] { ReadOnnx(path_); }, &message), ErrorCode::kDataLoss);
  EXPECT_NE(message.find("nested"), std::string::npos) << message;
}

}  // namespace
}  // namespace fr
