#include "common/networks/dpn.h"

#include <string>

#include "common/networks/output.h"

namespace fr {
namespace {

constexpr double kEpsilon = 1e-3;
constexpr double kOutputEpsilon = 1e-5;

// Both paths lie in one map: `width` channels of the residual path, then the dense path.
struct Stage {
  std::int64_t width;
  std::int64_t bottleneck;
  std::int64_t increase;
  std::int64_t groups;
};

// Writes timm's modules under timm's names.
class Writer {
 public:
  explicit Writer(GraphBuilder& builder) : b_(builder) {}

  int BnAct(const std::string& name, int x) {
    return b_.Relu(name + ".bn.act", b_.BatchNorm(name + ".bn", x));
  }

  int BnActConv(const std::string& name, int x, const ConvSpec& spec) {
    return b_.Conv(name + ".conv", BnAct(name, x), spec);
  }

  // The first block of a stage projects its input, with `stride`; the others pass it on.
  int Block(const std::string& name, int x, const Stage& stage, bool first, std::int64_t stride) {
    b_.BeginBlock();
    int shortcut = x;
    if (first) {
      shortcut = BnActConv(name + ".c1x1_w_s" + std::to_string(stride), x,
                           {.out = stage.width + 2 * stage.increase, .stride = stride});
    }
    int y = BnActConv(name + ".c1x1_a", x, {.out = stage.bottleneck});
    y = BnActConv(name + ".c3x3_b", y,
                  {.out = stage.bottleneck,
                   .kernel = {3, 3},
                   .stride = stride,
                   .padding = {1, 1},
                   .groups = stage.groups});
    y = BnActConv(name + ".c1x1_c", y, {.out = stage.width + stage.increase});
    const int sum =
        b_.Add(name + ".residual", b_.Slice(name + ".residual_in", shortcut, 0, stage.width),
               b_.Slice(name + ".residual_new", y, 0, stage.width));
    return b_.Concat(
        name + ".concat",
        {sum, b_.Slice(name + ".dense_in", shortcut, stage.width, b_.channels(shortcut)),
         b_.Slice(name + ".dense_new", y, stage.width, b_.channels(y))});
  }

 private:
  GraphBuilder& b_;
};

}  // namespace

Graph MakeDpn(const DpnSpec& spec, const NetworkOptions& options) {
  GraphBuilder b;
  b.set_batch_norm_epsilon(kEpsilon);
  Writer w(b);
  int x = b.Conv("features.conv1_1.conv", b.input(),
                 {.out = spec.stem, .kernel = {3, 3}, .padding = {1, 1}});
  x = w.BnAct("features.conv1_1", x);
  x = b.MaxPool("features.conv1_pool", x, {.kernel = 3, .stride = 2, .padding = 1});
  Stage stage = {spec.width, spec.bottleneck, 0, spec.groups};
  for (std::size_t i = 0; i < spec.blocks.size(); ++i) {
    stage.increase = spec.increase[i];
    for (int block = 1; block <= spec.blocks[i]; ++block) {
      const std::string name =
          "features.conv" + std::to_string(i + 2) + "_" + std::to_string(block);
      x = w.Block(name, x, stage, block == 1, block == 1 && i > 0 ? 2 : 1);
    }
    stage.width *= 2;
    stage.bottleneck *= 2;
  }
  b.BeginBlock();
  x = w.BnAct("features.conv5_bn_ac", x);
  b.set_batch_norm_epsilon(kOutputEpsilon);
  AddOutput(b, x, options.output.value(), options.embedding_size, options.dropout, "output.");
  return b.Finish();
}

}  // namespace fr
