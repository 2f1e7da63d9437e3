#include "common/networks/mobilefacenet.h"

#include <array>
#include <cstdint>
#include <string>

#include "common/networks/output.h"

namespace fr {
namespace {

constexpr double kMxnetEpsilon = 1e-3;  // MXNet's own default
constexpr double kMxnetOutputEpsilon = 2e-5;

// Writes the modules of arcface_torch's mobilefacenet.py under its names: a block's parts lie under
// "layers".
class Writer {
 public:
  explicit Writer(GraphBuilder& builder) : b_(builder) {}

  int Linear(const std::string& name, int x, const ConvSpec& spec) {
    return b_.BatchNorm(name + ".layers.1", b_.Conv(name + ".layers.0", x, spec));
  }
  int Conv(const std::string& name, int x, const ConvSpec& spec) {
    return b_.PRelu(name + ".layers.2", Linear(name, x, spec));
  }

  // 1x1 up to `groups` channels, depthwise 3x3 with `stride`, 1x1 to `out`; plus x if `residual`.
  int DepthWise(const std::string& name, int x, std::int64_t out, std::int64_t stride,
                std::int64_t groups, bool residual) {
    b_.BeginBlock();
    int y = Conv(name + ".layers.0", x, {.out = groups});
    y = Conv(
        name + ".layers.1", y,
        {.out = groups, .kernel = {3, 3}, .stride = stride, .padding = {1, 1}, .groups = groups});
    y = Linear(name + ".layers.2", y, {.out = out});
    return residual ? b_.Add(name + ".add", y, x) : y;
  }

  int Residuals(const std::string& name, int x, int blocks, std::int64_t groups) {
    for (int i = 0; i < blocks; ++i) {
      x = DepthWise(name + ".layers." + std::to_string(i), x, b_.channels(x), 1, groups, true);
    }
    return x;
  }

  // The whole map in one depthwise convolution, then the embedding.
  int Gdc(const std::string& name, int x, std::int64_t embedding_size, bool mxnet) {
    b_.BeginBlock();
    const std::int64_t channels = b_.channels(x);
    x = Linear(name + ".layers.0", x, {.out = channels, .kernel = {7, 7}, .groups = channels});
    x = b_.Flatten(name + ".layers.1", x);
    x = b_.Linear(name + ".layers.2", x, embedding_size, /*bias=*/mxnet);
    if (mxnet) b_.set_batch_norm_epsilon(kMxnetOutputEpsilon);
    return b_.BatchNorm(name + ".layers.3", x, /*fixed_weight=*/mxnet);
  }

 private:
  GraphBuilder& b_;
};

}  // namespace

Graph MakeMobileFaceNet(const MobileFaceNetSpec& spec, const NetworkOptions& options) {
  GraphBuilder b;
  b.set_conv_init({WeightInit::Kind::kKaimingFanOut});
  b.set_linear_init({WeightInit::Kind::kKaimingFanOut});
  if (spec.mxnet) b.set_batch_norm_epsilon(kMxnetEpsilon);
  Writer w(b);
  const std::array<int, 4>& blocks = spec.blocks;
  const std::int64_t narrow = 64 * spec.scale;
  const std::int64_t wide = 128 * spec.scale;
  int x = w.Conv("layers.0", b.input(),
                 {.out = narrow, .kernel = {3, 3}, .stride = 2, .padding = {1, 1}});
  if (blocks[0] == 1) {
    x = w.Conv("layers.1", x,
               {.out = narrow, .kernel = {3, 3}, .stride = 1, .padding = {1, 1}, .groups = 64});
  } else {
    x = w.Residuals("layers.1", x, blocks[0], 128);
  }
  x = w.DepthWise("layers.2", x, narrow, 2, 128, false);
  x = w.Residuals("layers.3", x, blocks[1], 128);
  x = w.DepthWise("layers.4", x, wide, 2, 256, false);
  x = w.Residuals("layers.5", x, blocks[2], 256);
  x = w.DepthWise("layers.6", x, wide, 2, 512, false);
  x = w.Residuals("layers.7", x, blocks[3], 256);
  b.BeginBlock();
  x = w.Conv("conv_sep", x, {.out = 512});
  if (options.output.value() == ModelSpec::GDC) {
    RefuseDropout(options.dropout);
    w.Gdc("features", x, options.embedding_size, spec.mxnet);
  } else {
    if (spec.mxnet) b.set_batch_norm_epsilon(kMxnetOutputEpsilon);
    AddOutput(b, x, options.output.value(), options.embedding_size, options.dropout);
  }
  return b.Finish();
}

}  // namespace fr
