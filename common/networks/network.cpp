#include "common/networks/network.h"

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/config/network_rules.h"
#include "common/networks/densenet.h"
#include "common/networks/dpn.h"
#include "common/networks/inception_resnet_v2.h"
#include "common/networks/ir_resnet.h"
#include "common/networks/mobilefacenet.h"
#include "common/networks/mobilenet.h"
#include "common/networks/vit.h"

namespace fr {
namespace {

constexpr DpnSpec kDpn68 = {.stem = 10,
                            .width = 64,
                            .bottleneck = 128,
                            .groups = 32,
                            .blocks = {3, 4, 12, 3},
                            .increase = {16, 32, 32, 64}};
constexpr DpnSpec kDpn92 = {.stem = 64,
                            .width = 256,
                            .bottleneck = 96,
                            .groups = 32,
                            .blocks = {3, 4, 20, 3},
                            .increase = {16, 32, 24, 128}};

}  // namespace

NetworkOptions OptionsOf(const ModelSpec& spec) {
  NetworkOptions options;
  options.network = spec.network();
  options.embedding_size = spec.embedding_size();
  options.dropout = spec.dropout();
  if (spec.has_output()) options.output = spec.output();
  options.squeeze_excite = spec.squeeze_excite();
  return options;
}

// The registry: one line a network.
Graph MakeNetwork(const NetworkOptions& asked) {
  NetworkOptions options = asked;
  if (!options.output && HasOutputs(options.network)) {
    options.output = DefaultOutput(options.network);
  }
  if (options.embedding_size < 1) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("an embedding of {} values cannot be: give model.embedding_size of at "
                            "least 1",
                            options.embedding_size));
  }
  if (options.squeeze_excite && !HasSqueezeExcite(options.network)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("model.squeeze_excite: {} has none; r18, r34, r50, r100 and r200 do",
                            Network_Name(options.network)));
  }
  switch (options.network) {
    case Network::r18:
      return MakeIrResNet({2, 2, 2, 2}, options);
    case Network::r34:
      return MakeIrResNet({3, 4, 6, 3}, options);
    case Network::r50:
      return MakeIrResNet({3, 4, 14, 3}, options);
    case Network::r100:
      return MakeIrResNet({3, 13, 30, 3}, options);
    case Network::r200:
      return MakeIrResNet({6, 26, 60, 6}, options);
    case Network::mbf:
      return MakeMobileFaceNet({.blocks = {1, 4, 6, 2}, .scale = 2}, options);
    case Network::mbf_large:
      return MakeMobileFaceNet({.blocks = {2, 8, 12, 4}, .scale = 4}, options);
    case Network::y1:
      return MakeMobileFaceNet({.blocks = {1, 4, 6, 2}, .scale = 1, .mxnet = true}, options);
    case Network::m1:
      return MakeMobileNet(options);
    case Network::inception_resnet_v2:
      return MakeInceptionResnetV2(options);
    case Network::densenet121:
      return MakeDenseNet({.growth = 32, .layers = {6, 12, 24, 16}}, options);
    case Network::densenet161:
      return MakeDenseNet({.growth = 48, .layers = {6, 12, 36, 24}}, options);
    case Network::densenet169:
      return MakeDenseNet({.growth = 32, .layers = {6, 12, 32, 32}}, options);
    case Network::densenet201:
      return MakeDenseNet({.growth = 32, .layers = {6, 12, 48, 32}}, options);
    case Network::dpn68:
      return MakeDpn(kDpn68, options);
    case Network::dpn92:
      return MakeDpn(kDpn92, options);
    case Network::vit_t:
      return MakeVit({.width = 256, .depth = 12, .drop_path = 0.1, .hidden_share = 0.1}, options);
    case Network::vit_s:
      return MakeVit({.width = 512, .depth = 12, .drop_path = 0.1, .hidden_share = 0.1}, options);
    case Network::vit_b:
      return MakeVit({.width = 512, .depth = 24, .drop_path = 0.1, .hidden_share = 0.1}, options);
    case Network::vit_l:
      return MakeVit({.width = 768, .depth = 24, .drop_path = 0.05, .hidden_share = 0.05}, options);
    default:
      break;
  }
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("network number {} is not known", static_cast<int>(options.network)));
}

}  // namespace fr
