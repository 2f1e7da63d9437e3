#include "worker/weights/match.h"

#include <filesystem>
#include <fstream>
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

// How our network differs from the one that Python builds below.
struct Variation {
  std::int64_t stride = 2;
  std::int64_t groups = 4;
  std::int64_t width = 8;
  bool second_block = true;
  bool gate = true;
  double factor = 1;
};

int Block(GraphBuilder& b, const std::string& name, int x, std::int64_t stride,
          const Variation& variation) {
  int y = b.BatchNorm(name + ".bn1", x);
  y = b.Conv(
      name + ".conv1", y,
      {.out = variation.width, .kernel = {3, 3}, .padding = {1, 1}, .groups = variation.groups});
  y = b.PRelu(name + ".prelu", b.BatchNorm(name + ".bn2", y));
  y = b.Conv(name + ".conv2", y,
             {.out = variation.width, .kernel = {3, 3}, .stride = stride, .padding = {1, 1}});
  y = b.BatchNorm(name + ".bn3", y);
  if (variation.gate) {
    int gate = b.GlobalAveragePool(name + ".pool", y);
    gate = b.Relu(name + ".relu", b.Conv(name + ".fc1", gate, {.out = 2, .bias = true}));
    gate = b.Conv(name + ".fc2", gate, {.out = variation.width, .bias = true});
    y = b.Multiply(name + ".scale", y, b.Sigmoid(name + ".sigmoid", gate));
  }
  if (stride != 1) {
    x = b.Conv(name + ".downsample.0", x, {.out = variation.width, .stride = stride});
    x = b.BatchNorm(name + ".downsample.1", x);
  }
  return b.Add(name + ".add", x, y, variation.factor);
}

// A face network in miniature: every element of the large ones.
Graph SmallNetwork(const Variation& variation = {}) {
  GraphBuilder b({3, 8, 8});
  int x = b.Conv("conv1", b.input(), {.out = variation.width, .kernel = {3, 3}, .padding = {1, 1}});
  x = b.PRelu("prelu", b.BatchNorm("bn1", x));
  x = Block(b, "block1", x, variation.stride, variation);
  if (variation.second_block) x = Block(b, "block2", x, 1, variation);
  x = b.Dropout("dropout", b.BatchNorm("bn2", x), 0.4);
  x = b.Linear("fc", b.Flatten("flatten", x), 5, /*bias=*/true);
  b.BatchNorm("features", x, /*fixed_weight=*/true);
  return b.Finish();
}

// The same in PyTorch, with names of ours, random statistics, and a choice of eps.
constexpr const char* kNetwork = R"(
import numpy, sys, torch, torch.nn as nn, warnings
warnings.simplefilter('ignore')
class Block(nn.Module):
    def __init__(self, stride, eps):
        super().__init__()
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm2d(8, eps) for _ in range(3))
        self.conv1 = nn.Conv2d(8, 8, 3, 1, 1, groups=4, bias=False)
        self.conv2 = nn.Conv2d(8, 8, 3, stride, 1, bias=False)
        self.prelu = nn.PReLU(8)
        self.fc1, self.fc2 = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)
        self.downsample = None if stride == 1 else nn.Sequential(
            nn.Conv2d(8, 8, 1, stride, bias=False), nn.BatchNorm2d(8, eps))
    def forward(self, x):
        y = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        gate = nn.functional.adaptive_avg_pool2d(y, 1)
        y = y * torch.sigmoid(self.fc2(torch.relu(self.fc1(gate))))
        return y + (x if self.downsample is None else self.downsample(x))
class Net(nn.Module):
    def __init__(self, eps):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(8, eps), nn.BatchNorm2d(8, eps)
        self.prelu = nn.PReLU(8)
        self.block1, self.block2 = Block(2, eps), Block(1, eps)
        self.dropout = nn.Dropout(0.4)
        self.fc = nn.Linear(128, 5)
        self.features = nn.BatchNorm1d(5, eps)
    def forward(self, x):
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.bn2(self.block2(self.block1(x)))
        return self.features(self.fc(torch.flatten(self.dropout(x), 1)))
class WithPreprocessing(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net
    def forward(self, x):
        return self.net((x - 127.5) * 0.0078125)
def make(eps):
    torch.manual_seed(1)
    net = Net(eps).eval()
    for name, value in net.state_dict().items():
        if name.endswith('num_batches_tracked') or name == 'features.weight': continue
        # Variances so small that a wrong eps shows.
        value.uniform_(1e-4, 2e-4) if 'running_var' in name else value.uniform_(-0.5, 0.5)
    return net
pixels = torch.arange(2. * 3 * 8 * 8).reshape(2, 3, 8, 8) * 7 % 256
def compare(reference, eps):
    import struct
    # What we matched, loaded into PyTorch's network with our eps.
    state, data = {}, open('matched', 'rb').read()
    while data:
        line, data = data.split(b'\n', 1)
        name, *shape = line.decode().split(' ')
        shape = [int(s) for s in shape]
        count = numpy.prod(shape, dtype=int)
        state[name] = torch.tensor(struct.unpack('<%df' % count, data[:4 * count])).reshape(shape)
        data = data[4 * count:]
    net = make(eps)
    wanted = {n for n in net.state_dict() if not n.endswith('num_batches_tracked')}
    assert set(state) == wanted, set(state) ^ wanted
    net.load_state_dict(state, strict=False)
    with torch.no_grad():
        expected = reference((pixels - 127.5) * 0.0078125)
        actual = net((pixels - 127.5) * 0.0078125)
    print('%.1e' % ((actual - expected).abs().max() / expected.abs().max()).item(), end='')
)";

// An MXNet model of a network, written as MXNet would: see mxnet_file_test.cpp for the format.
constexpr const char* kWriteMxnet = R"(
import json, struct
class Mxnet:
    def __init__(self, state, eps, name_of_attributes='attrs'):
        self.state, self.eps, self.key = state, eps, name_of_attributes
        self.nodes, self.tensors = [], {}
    def add(self, op, name, inputs=(), **attributes):
        node = {'op': op, 'name': name, 'inputs': [[i, 0, 0] for i in inputs]}
        if attributes: node[self.key] = {k: str(v) for k, v in attributes.items()}
        self.nodes.append(node)
        return len(self.nodes) - 1
    def variable(self, name, kind, value):
        self.tensors[kind + ':' + name] = value
        return self.add('null', name)
    def conv(self, x, name, ours, kernel, stride=1, pad=0, groups=1, bias=False):
        weight = self.state[ours + '.weight']
        inputs = [x, self.variable(name + '_weight', 'arg', weight)]
        if bias: inputs.append(self.variable(name + '_bias', 'arg', self.state[ours + '.bias']))
        return self.add('Convolution', name, inputs, kernel=(kernel, kernel), stride=(stride, stride),
                        pad=(pad, pad), num_filter=len(weight), num_group=groups, no_bias=not bias)
    def bn(self, x, name, ours, fix_gamma=False):
        s = self.state
        gamma = s[ours + '.weight']
        inputs = [x, self.variable(name + '_gamma', 'arg', gamma * 0 + 7 if fix_gamma else gamma),
                  self.variable(name + '_beta', 'arg', s[ours + '.bias']),
                  self.variable(name + '_moving_mean', 'aux', s[ours + '.running_mean']),
                  self.variable(name + '_moving_var', 'aux', s[ours + '.running_var'])]
        attributes = {'momentum': 0.9}
        # Absent means True, and 1e-3.
        if not fix_gamma: attributes['fix_gamma'] = False
        if self.eps != 1e-3: attributes['eps'] = self.eps
        return self.add('BatchNorm', name, inputs, **attributes)
    def prelu(self, x, name, ours):
        slope = self.variable(name + '_gamma', 'arg', self.state[ours + '.weight'])
        return self.add('LeakyReLU', name, [x, slope], act_type='prelu')
    def block(self, x, name, ours, stride):
        y = self.bn(x, name + '_bn1', ours + '.bn1')
        y = self.conv(y, name + '_conv1', ours + '.conv1', 3, 1, 1, groups=4)
        y = self.prelu(self.bn(y, name + '_bn2', ours + '.bn2'), name + '_relu1', ours + '.prelu')
        y = self.bn(self.conv(y, name + '_conv2', ours + '.conv2', 3, stride, 1), name + '_bn3',
                    ours + '.bn3')
        gate = self.add('Pooling', name + '_se_pool1', [y], global_pool=True, kernel=(7, 7),
                        pool_type='avg')
        gate = self.conv(gate, name + '_se_conv1', ours + '.fc1', 1, bias=True)
        gate = self.add('Activation', name + '_se_relu1', [gate], act_type='relu')
        gate = self.conv(gate, name + '_se_conv2', ours + '.fc2', 1, bias=True)
        gate = self.add('Activation', name + '_se_sigmoid', [gate], act_type='sigmoid')
        y = self.add('broadcast_mul', name + '_mul', [y, gate])
        if stride != 1:
            x = self.bn(self.conv(x, name + '_conv1sc', ours + '.downsample.0', 1, stride),
                        name + '_sc', ours + '.downsample.1')
        return self.add('elemwise_add', name + '_plus', [y, x])
    def network(self):
        x = self.add('_copy', 'id', [self.add('null', 'data')])
        x = self.add('_minus_scalar', '_minusscalar0', [x], scalar='127.5')
        x = self.add('_mul_scalar', '_mulscalar0', [x], scalar='0.0078125')
        x = self.bn(self.conv(x, 'conv0', 'conv1', 3, 1, 1), 'bn0', 'bn1')
        x = self.prelu(x, 'relu0', 'prelu')
        x = self.block(x, 'stage1_unit1', 'block1', 2)
        x = self.block(x, 'stage1_unit2', 'block2', 1)
        x = self.add('Dropout', 'dropout0', [self.bn(x, 'bn1', 'bn2')], p=0.4)
        x = self.add('FullyConnected', 'pre_fc1',
                     [x, self.variable('pre_fc1_weight', 'arg', self.state['fc.weight']),
                      self.variable('pre_fc1_bias', 'arg', self.state['fc.bias'])], num_hidden=5)
        return self.bn(x, 'fc1', 'features', fix_gamma=True)
    def training_head(self, x):
        # The classifier's weight is not in the file: it is not needed.
        x = self.add('L2Normalization', 'fc1n', [x], mode='instance')
        x = self.add('FullyConnected', 'fc7', [x, self.add('null', 'fc7_weight')], no_bias=True)
        return self.add('SoftmaxOutput', 'softmax', [x, self.add('null', 'softmax_label')])
    def save(self, prefix, head):
        json.dump({'nodes': self.nodes, 'arg_nodes': [], 'heads': [[head, 0, 0]]},
                  open(prefix + '-symbol.json', 'w'))
        with open(prefix + '-0000.params', 'wb') as f:
            f.write(struct.pack('<QQQ', 0x112, 0, len(self.tensors)))
            for value in self.tensors.values():
                f.write(struct.pack('<Iii', 0xF993FAC9, 0, value.dim()))
                f.write(b''.join(struct.pack('<q', s) for s in value.shape))
                f.write(struct.pack('<iii', 1, 0, 0) + value.detach().numpy().tobytes())
            f.write(struct.pack('<Q', len(self.tensors)))
            for name in self.tensors: f.write(struct.pack('<Q', len(name)) + name.encode())
)";

constexpr const char* kExport = R"(
from torch.onnx._internal.torchscript_exporter import onnx_proto_utils
onnx_proto_utils._add_onnxscript_fn = lambda model_bytes, custom_opsets: model_bytes
def export(net, path, folded):
    how = {} if folded else {'training': torch.onnx.TrainingMode.PRESERVE,
                             'do_constant_folding': False}
    torch.onnx.export(net, pixels, path, dynamo=False, **how)
)";

class Match : public testing::Test {
 protected:
  std::string Python(const std::string& program) {
    return RunPython(directory_.path(), std::string(kNetwork) + kWriteMxnet + kExport + program);
  }

  ForeignGraph ReadMxnet(const std::string& prefix) {
    return FromMxnet(ReadMxnetSymbol(directory_.path() / (prefix + "-symbol.json")),
                     ReadMxnetParams(directory_.path() / (prefix + "-0000.params")));
  }
  ForeignGraph ReadOnnxGraph(const std::string& name) {
    return FromOnnx(ReadOnnx(directory_.path() / name));
  }

  // Largest difference of the embeddings, relative to the largest value, between PyTorch's network
  // with `their_eps` and the one with ours (1e-5) and the matched weights.
  double Difference(const ForeignGraph& theirs, const std::string& their_eps) {
    std::ofstream file(directory_.path() / "matched", std::ios::binary);
    for (const auto& [name, tensor] : MatchForeignGraph(SmallNetwork(), theirs)) {
      file << name;
      for (const std::int64_t size : tensor.shape) file << ' ' << size;
      file << '\n' << tensor.bytes;
    }
    file.close();
    return std::stod(Python(fmt::format("compare(make({}), 1e-5)\n", their_eps)));
  }

  // Refused with a message that has all of `parts`.
  static void ExpectRefused(const Variation& variation, const ForeignGraph& theirs,
                            const std::vector<std::string>& parts) {
    std::string message;
    EXPECT_EQ(CodeOf([&] { MatchForeignGraph(SmallNetwork(variation), theirs); }, &message),
              ErrorCode::kInvalidArgument);
    for (const std::string& part : parts) {
      EXPECT_NE(message.find(part), std::string::npos) << message << " lacks " << part;
    }
  }

  TemporaryDirectory directory_;
};

TEST_F(Match, MxnetModelsComputeTheSame) {
  Python(R"(
net = Mxnet(make(2e-5).state_dict(), 2e-5)
net.save('deploy', net.network())
net = Mxnet(make(2e-5).state_dict(), 2e-5, 'attr')
net.save('training', net.training_head(net.network()))
net = Mxnet(make(1e-3).state_dict(), 1e-3, 'param')
net.save('default_eps', net.network())
)");
  for (const char* name : {"deploy", "training"}) {
    const ForeignGraph theirs = ReadMxnet(name);
    EXPECT_EQ(theirs.node(theirs.output).name, "fc1");
    EXPECT_EQ(theirs.preprocessing, (Preprocessing{127.5, 128}));
    EXPECT_LT(Difference(theirs, "2e-5"), 1e-5) << name;
  }
  EXPECT_LT(Difference(ReadMxnet("default_eps"), "1e-3"), 1e-5);
}

TEST_F(Match, OnnxModelsComputeTheSame) {
  Python(R"(
export(make(1e-5), 'folded.onnx', True)
export(make(1e-5), 'kept.onnx', False)
export(WithPreprocessing(make(3e-5)), 'preprocessing.onnx', True)
)");
  EXPECT_LT(Difference(ReadOnnxGraph("folded.onnx"), "1e-5"), 1e-5);
  EXPECT_EQ(ReadOnnxGraph("folded.onnx").preprocessing, std::nullopt);
  EXPECT_EQ(Difference(ReadOnnxGraph("kept.onnx"), "1e-5"), 0);
  const ForeignGraph theirs = ReadOnnxGraph("preprocessing.onnx");
  EXPECT_EQ(theirs.preprocessing, (Preprocessing{127.5, 128}));
  EXPECT_LT(Difference(theirs, "3e-5"), 1e-5);
}

// A convolution's bias that ours has no place for goes into the batch norm behind it.
TEST_F(Match, BiasBeforeABatchNormIsKept) {
  Python(R"(
class Biased(Mxnet):
    def conv(self, x, name, ours, *args, **kwargs):
        if ours == 'conv1':
            kwargs['bias'] = True
            # y = conv + 1/8, the statistics' mean moved along.
            self.state['conv1.bias'] = torch.full((8,), 0.125)
            self.state['bn1.running_mean'] = self.state['bn1.running_mean'] + 0.125
        return super().conv(x, name, ours, *args, **kwargs)
net = Biased(dict(make(1e-5).state_dict()), 1e-5)
net.save('biased', net.network())
)");
  EXPECT_LT(Difference(ReadMxnet("biased"), "1e-5"), 1e-5);
}

TEST_F(Match, AnotherNetworkIsRefusedWhereItDiffers) {
  Python(R"(
net = Mxnet(make(2e-5).state_dict(), 2e-5)
net.save('net', net.network())
)");
  const ForeignGraph theirs = ReadMxnet("net");
  ExpectRefused({.stride = 4}, theirs, {"'fc'", "\"pre_fc1\"", "[5, 128] instead of [5, 32]"});
  ExpectRefused({.groups = 2}, theirs,
                {"'block2.conv1'", "\"stage1_unit2_conv1\"", "4 groups instead of 2"});
  ExpectRefused({.width = 16}, theirs, {"'fc'", "[5, 128] instead of [5, 256]"});
  ExpectRefused({.second_block = false}, theirs,
                {"'block1.downsample.1'", "stage1_unit1_plus", "BatchNorm is expected"});
  ExpectRefused({.gate = false}, theirs,
                {"'block2.bn3'", "stage1_unit2_mul", "BatchNorm is expected"});
  ExpectRefused({.factor = 0.5}, theirs, {"'block2.add'", "stage1_unit2_plus", "times 0.5"});
}

TEST_F(Match, FilesThatDoNotBelongTogetherAreRefused) {
  Python(R"(
net = Mxnet(make(2e-5).state_dict(), 2e-5)
head = net.network()
del net.tensors['aux:bn0_moving_var']
net.save('lacks', head)
)");
  std::string message;
  EXPECT_EQ(CodeOf([&] { ReadMxnet("lacks"); }, &message), ErrorCode::kInvalidArgument);
  EXPECT_NE(message.find("\"bn0\""), std::string::npos) << message;
  EXPECT_NE(message.find("bn0_moving_var"), std::string::npos) << message;
}

// Whatever a damaged file says, it is matched or refused.
TEST_F(Match, DamageNeverCrashes) {
  Python(R"(
net = Mxnet(make(2e-5).state_dict(), 2e-5)
net.save('net', net.network())
export(make(1e-5), 'net.onnx', False)
)");
  const auto named = [](const std::filesystem::path& path, const auto& read) {
    try {
      MatchForeignGraph(SmallNetwork(), read());
    } catch (const Error& error) {
      throw Error(error.code(), path.string() + ": " + error.what());
    }
  };
  const HostTensors params = ReadMxnetParams(directory_.path() / "net-0000.params");
  ExpectBearsDamage(
      directory_.path() / "net-symbol.json",
      [&](const std::filesystem::path& path) {
        named(path, [&] { return FromMxnet(ReadMxnetSymbol(path), params); });
      },
      /*needs_end=*/true, 700, /*step=*/197);
  ExpectBearsDamage(
      directory_.path() / "net.onnx",
      [&](const std::filesystem::path& path) {
        named(path, [&] { return FromOnnx(ReadOnnx(path)); });
      },
      /*needs_end=*/false, 700, /*step=*/197);
}

}  // namespace
}  // namespace fr
