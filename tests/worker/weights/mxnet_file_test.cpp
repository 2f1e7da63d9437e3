#include "worker/weights/mxnet_file.h"

#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "tests/python.h"
#include "tests/worker/weights/damage.h"

namespace fr {
namespace {

using Shape = std::vector<std::int64_t>;

std::vector<float> Floats(const HostTensor* tensor) {
  if (tensor == nullptr) return {};
  const HostTensor floats = tensor->ToFloat32();
  return {floats.floats().begin(), floats.floats().end()};
}

// The format, written down a second time: a tensor of each version, a list of them.
constexpr const char* kWriter = R"(
import struct
def sizes(shape, dim):
    return struct.pack('<I', len(shape)) + b''.join(struct.pack(dim, d) for d in shape)
def body(data, type_flag):
    return struct.pack('<iii', 1, 0, type_flag) + data
def v0(shape, data, type_flag=0): return sizes(shape, '<I') + body(data, type_flag)
def v1(shape, data, type_flag=0):
    return struct.pack('<I', 0xF993FAC8) + sizes(shape, '<q') + body(data, type_flag)
def v2(shape, data, type_flag=0, magic=0xF993FAC9, storage=0):
    return struct.pack('<Ii', magic, storage) + sizes(shape, '<q') + body(data, type_flag)
def v3(shape, data, type_flag=0): return v2(shape, data, type_flag, 0xF993FACA)
def save(path, tensors, magic=0x112):
    with open(path, 'wb') as f:
        f.write(struct.pack('<QQQ', magic, 0, len(tensors)) + b''.join(tensors.values()))
        f.write(struct.pack('<Q', len(tensors)))
        for name in tensors:
            f.write(struct.pack('<Q', len(name)) + name.encode())
def floats(*values): return struct.pack('<%df' % len(values), *values)
)";

TEST(MxnetParams, ReadsEveryVersionOfTheFormat) {
  const TemporaryDirectory directory;
  RunPython(directory.path(), std::string(kWriter) + R"(
save('net-0000.params', {
    'arg:legacy': v0((2, 1), floats(1, 2)),
    'arg:one': v1((3,), floats(1, 2, 3)),
    'arg:two': v2((1, 2, 1, 1), floats(4, 5)),
    'aux:scalar': v3((), floats(6)),
    'arg:never_set': struct.pack('<IiI', 0xF993FAC9, 0, 0),
    'arg:double': v2((1,), struct.pack('<d', 0.5), 1),
    'arg:half': v2((2,), b'\x00\x3c\x00\xc0', 2),
    'arg:uint8': v2((1,), b'\xff', 3),
    'arg:int32': v2((1,), struct.pack('<i', -7), 4),
    'arg:int8': v2((1,), b'\xff', 5),
    'arg:int64': v2((1,), struct.pack('<q', -8), 6),
    'arg:bool': v2((2,), b'\x00\x01', 7),
    'arg:bf16': v2((1,), b'\x80\x3f', 12)})
)");
  const HostTensors params = ReadMxnetParams(directory.path() / "net-0000.params");
  ASSERT_EQ(params.size(), 13U);
  EXPECT_EQ(params.begin()->first, "arg:legacy");
  EXPECT_EQ(params.Find("arg:legacy")->shape, (Shape{2, 1}));
  EXPECT_EQ(Floats(params.Find("arg:legacy")), (std::vector<float>{1, 2}));
  EXPECT_EQ(Floats(params.Find("arg:one")), (std::vector<float>{1, 2, 3}));
  EXPECT_EQ(params.Find("arg:two")->shape, (Shape{1, 2, 1, 1}));
  EXPECT_EQ(Floats(params.Find("arg:two")), (std::vector<float>{4, 5}));
  EXPECT_EQ(Floats(params.Find("aux:scalar")), (std::vector<float>{6}));
  EXPECT_EQ(params.Find("arg:never_set")->numel(), 0);
  EXPECT_EQ(Floats(params.Find("arg:double")), (std::vector<float>{0.5}));
  EXPECT_EQ(Floats(params.Find("arg:half")), (std::vector<float>{1, -2}));
  EXPECT_EQ(Floats(params.Find("arg:uint8")), (std::vector<float>{255}));
  EXPECT_EQ(Floats(params.Find("arg:int32")), (std::vector<float>{-7}));
  EXPECT_EQ(Floats(params.Find("arg:int8")), (std::vector<float>{-1}));
  EXPECT_EQ(Floats(params.Find("arg:int64")), (std::vector<float>{-8}));
  EXPECT_EQ(Floats(params.Find("arg:bool")), (std::vector<float>{0, 1}));
  EXPECT_EQ(Floats(params.Find("arg:bf16")), (std::vector<float>{1}));
}

TEST(MxnetParams, SaysWhatIsWrongWithAFile) {
  const TemporaryDirectory directory;
  RunPython(directory.path(), std::string(kWriter) + R"(
good = v2((1,), floats(1))
save('magic', {'a': good}, magic=0x113)
save('sparse', {'a': v2((1,), floats(1), storage=1)})
save('type', {'a': v2((1,), floats(1), 99)})
save('negative', {'a': v2((-1,), floats(1))})
save('overflow', {'a': v2((2**62, 2**62), floats(1))})
save('large', {'a': v2((2**40,), floats(1))})
save('dimensions', {'a': v0((1,) * 100, floats(1))})
open('many', 'wb').write(struct.pack('<QQQ', 0x112, 0, 2**63))
open('names', 'wb').write(struct.pack('<QQQ', 0x112, 0, 1) + good + struct.pack('<Q', 0))
open('twice', 'wb').write(struct.pack('<QQQ', 0x112, 0, 2) + good * 2 +
                          struct.pack('<QQcQc', 2, 1, b'a', 1, b'a'))
open('long_name', 'wb').write(struct.pack('<QQQ', 0x112, 0, 1) + good + struct.pack('<QQ', 1, 2**64 - 1))
open('zip', 'wb').write(b'PK\x03\x04')
open('empty', 'wb')
)");
  const auto expect = [&](const char* name, const char* part) {
    std::string message;
    EXPECT_EQ(CodeOf([&] { ReadMxnetParams(directory.path() / name); }, &message),
              ErrorCode::kDataLoss);
    EXPECT_NE(message.find(part), std::string::npos) << message;
    EXPECT_NE(message.find(name), std::string::npos) << message;
  };
  expect("magic", "no MXNet parameter file");
  expect("sparse", "sparse");
  expect("type", "type 99");
  expect("negative", "[-1]");
  expect("overflow", "impossible");
  expect("large", "1099511627776");
  expect("dimensions", "100 dimensions");
  expect("many", "do not fit");
  expect("names", "0 names for 1");
  expect("twice", "twice");
  expect("long_name", "a name");
  expect("zip", "MXNet 2");
  expect("empty", "0 are left");
  EXPECT_EQ(CodeOf([&] { ReadMxnetParams(directory.path() / "absent"); }), ErrorCode::kNotFound);
}

TEST(MxnetParams, DamageNeverCrashes) {
  const TemporaryDirectory directory;
  RunPython(directory.path(), std::string(kWriter) + R"(
save('net.params', {'arg:a': v0((2, 1), floats(1, 2)), 'arg:b': v1((3,), floats(1, 2, 3)),
                    'aux:c': v2((1, 2), floats(4, 5)), 'aux:d': v3((), b'\x00\x3c', 2)})
)");
  const auto read = [](const std::filesystem::path& path) {
    for (const auto& [name, tensor] : ReadMxnetParams(path)) tensor.ToFloat32();
  };
  ExpectBearsDamage(directory.path() / "net.params", read, /*needs_end=*/true, 6000);
}

// The spellings of three ages of MXNet.
TEST(MxnetSymbol, AttributesOfEveryVersion) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "net-symbol.json";
  const char* spellings[] = {
      R"j("attrs": {"kernel": "(3, 3)", "lr_mult": "2"})j",
      R"j("attr": {"kernel": "(3, 3)", "lr_mult": "2"})j",
      R"j("param": {"kernel": "(3, 3)"}, "attr": {"lr_mult": "2"})j",
  };
  for (const char* attributes : spellings) {
    WriteBytes(path, fmt::format(R"j({{"nodes": [
        {{"op": "null", "name": "data", "inputs": []}},
        {{"op": "Convolution", "name": "conv0", {}, "inputs": [[0, 0, 0]]}},
        {{"op": "Flatten", "name": "flat", "inputs": [[1, 0]]}}],
        "arg_nodes": [0], "heads": [[2, 0, 0]]}})j",
                                 attributes));
    const MxnetSymbol symbol = ReadMxnetSymbol(path);
    ASSERT_EQ(symbol.nodes.size(), 3U);
    EXPECT_EQ(symbol.nodes[1].attributes.at("kernel"), "(3, 3)");
    EXPECT_EQ(symbol.nodes[1].attributes.at("lr_mult"), "2");
    EXPECT_EQ(symbol.nodes[2].inputs[0].node, 1U);
    EXPECT_EQ(symbol.heads[0].node, 2U);
  }
}

TEST(MxnetSymbol, SaysWhatIsWrongWithAFile) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "net-symbol.json";
  const auto expect = [&](const std::string& json, const char* part) {
    WriteBytes(path, json);
    std::string message;
    EXPECT_EQ(CodeOf([&] { ReadMxnetSymbol(path); }, &message), ErrorCode::kDataLoss) << json;
    EXPECT_NE(message.find(part), std::string::npos) << message;
    EXPECT_NE(message.find("net-symbol.json"), std::string::npos) << message;
  };
  const auto symbol = [](const std::string& nodes, const std::string& heads) {
    return fmt::format(R"({{"nodes": [{}], "heads": [{}]}})", nodes, heads);
  };
  const std::string data = R"({"op": "null", "name": "data", "inputs": []})";
  expect("", "no JSON object");
  expect("[]", "no JSON object");
  expect("{}", "nodes");
  expect(symbol(data, ""), "no heads");
  expect(symbol(data, "[1, 0]"), "node 1 of 1");
  expect(symbol(data, "[-1, 0]"), "node -1 of 1");
  expect(symbol(data, "[0.5, 0]"), "node 0.5 of 1");
  expect(symbol(data, "[1e72, 0]"), "node 1e+72 of 1");
  expect(symbol(data, "[0, 1e72]"), "output 1e+72");
  expect(symbol(data, R"(["x", 0])"), "node \"x\" of 1");
  expect(symbol(R"({"op": "null", "name": "loop", "inputs": [[0, 0]]})", "[0, 0]"), "node 0 of 0");
  expect(symbol(R"({"op": 1, "name": "x", "inputs": []})", "[0, 0]"), "node 0");
  expect(symbol("7", "[0, 0]"), "node 0");
  expect(std::string(1'000'000, '['), "no JSON object");
  expect(std::string(100'000, '[') + std::string(100'000, ']'), "no JSON object");
}

TEST(MxnetSymbol, DamageNeverCrashes) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "net-symbol.json";
  WriteBytes(path, R"({"nodes": [{"op": "null", "name": "data", "inputs": []},
      {"op": "Flatten", "name": "f", "attrs": {"a": "1"}, "inputs": [[0, 0, 0]]}],
      "heads": [[1, 0, 0]]})");
  const auto read = [](const std::filesystem::path& file) { ReadMxnetSymbol(file); };
  ExpectBearsDamage(path, read, /*needs_end=*/true, 4000);
}

}  // namespace
}  // namespace fr
