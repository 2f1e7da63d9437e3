#include "worker/backbones/network.h"

#include <fmt/format.h>

#include "common/base/error.h"
#include "worker/backbones/ir_resnet.h"
#include "worker/backbones/mobilefacenet.h"

namespace fr {
namespace {

bool HasSqueezeExcite(Network network) {
  return network == Network::r18 || network == Network::r34 || network == Network::r50 ||
         network == Network::r100 || network == Network::r200;
}

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
Graph MakeNetwork(const NetworkOptions& options) {
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
      return MakeMobileFaceNet({1, 4, 6, 2}, 2, options);
    case Network::mbf_large:
      return MakeMobileFaceNet({2, 8, 12, 4}, 4, options);
    default:
      break;
  }
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("network number {} is not known", static_cast<int>(options.network)));
}

}  // namespace fr
