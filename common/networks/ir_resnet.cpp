#include "common/networks/ir_resnet.h"

#include <cstdint>
#include <string>

#include "common/networks/output.h"

namespace fr {
namespace {

constexpr std::int64_t kWidths[] = {64, 128, 256, 512};
constexpr std::int64_t kSqueeze = 16;  // channels for one channel of the gate's bottleneck

ConvSpec Conv3x3(std::int64_t out, std::int64_t stride) {
  return {.out = out, .kernel = {3, 3}, .stride = stride, .padding = {1, 1}};
}

// Channels weighted by what the whole map says (Hu et al., arXiv:1709.01507), as fresnet.py has it.
int SqueezeExcite(GraphBuilder& b, const std::string& name, int x) {
  const std::int64_t channels = b.channels(x);
  int gate = b.GlobalAveragePool(name + ".pool", x);
  gate = b.Conv(name + ".fc1", gate, {.out = channels / kSqueeze, .bias = true});
  gate = b.PRelu(name + ".prelu", gate);
  gate = b.Conv(name + ".fc2", gate, {.out = channels, .bias = true});
  gate = b.Sigmoid(name + ".sigmoid", gate);
  return b.Multiply(name + ".scale", x, gate);
}

// BN - conv3x3 - BN - PReLU - conv3x3(stride) - BN (- SE), plus x or (conv1x1(stride) - BN)(x).
int IrBlock(GraphBuilder& b, const std::string& name, int x, std::int64_t out, std::int64_t stride,
            bool squeeze_excite) {
  b.BeginBlock();
  int y = b.BatchNorm(name + ".bn1", x);
  y = b.Conv(name + ".conv1", y, Conv3x3(out, 1));
  y = b.PRelu(name + ".prelu", b.BatchNorm(name + ".bn2", y));
  y = b.Conv(name + ".conv2", y, Conv3x3(out, stride));
  y = b.BatchNorm(name + ".bn3", y);
  if (squeeze_excite) y = SqueezeExcite(b, name + ".se", y);
  int shortcut = x;
  if (stride != 1 || b.channels(x) != out) {
    shortcut = b.Conv(name + ".downsample.0", x, {.out = out, .stride = stride});
    shortcut = b.BatchNorm(name + ".downsample.1", shortcut);
  }
  return b.Add(name + ".add", y, shortcut);
}

}  // namespace

Graph MakeIrResNet(const std::array<int, 4>& blocks, const NetworkOptions& options) {
  GraphBuilder b;
  b.set_conv_init({WeightInit::Kind::kNormal, 0.1});
  int x = b.Conv("conv1", b.input(), Conv3x3(64, 1));
  x = b.PRelu("prelu", b.BatchNorm("bn1", x));
  for (std::size_t stage = 0; stage < blocks.size(); ++stage) {
    for (int block = 0; block < blocks[stage]; ++block) {
      const std::string name = "layer" + std::to_string(stage + 1) + "." + std::to_string(block);
      x = IrBlock(b, name, x, kWidths[stage], block == 0 ? 2 : 1, options.squeeze_excite);
    }
  }
  AddOutput(b, x, options.output.value(), options.embedding_size, options.dropout);
  return b.Finish();
}

}  // namespace fr
