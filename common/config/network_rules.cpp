#include "common/config/network_rules.h"

namespace fr {

bool HasSqueezeExcite(Network network) {
  switch (network) {
    case Network::r18:
    case Network::r34:
    case Network::r50:
    case Network::r100:
    case Network::r200:
      return true;
    default:
      return false;
  }
}

bool HasOutputs(Network network) {
  switch (network) {
    case Network::vit_t:
    case Network::vit_s:
    case Network::vit_b:
    case Network::vit_l:
      return false;
    default:
      return true;
  }
}

ModelSpec::Output DefaultOutput(Network network) {
  switch (network) {
    // Those of the mobile kind end in a depthwise convolution.
    case Network::mbf:
    case Network::mbf_large:
    case Network::y1:
    case Network::m1:
      return ModelSpec::GDC;
    default:
      return ModelSpec::E;
  }
}

}  // namespace fr
