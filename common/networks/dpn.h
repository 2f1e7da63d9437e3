#pragma once
// Dual path networks (Chen et al., arXiv:1707.01629) for 112 x 112.

#include <array>
#include <cstdint>

#include "common/networks/network.h"

namespace fr {

struct DpnSpec {
  std::int64_t stem = 64;                     // channels of the first convolution
  std::int64_t width = 256;                   // of the first stage's residual path; doubles a stage
  std::int64_t bottleneck = 96;               // channels inside the first stage's blocks; doubles
  std::int64_t groups = 32;                   // of the 3 x 3 convolutions
  std::array<int, 4> blocks = {};             // of the four stages
  std::array<std::int64_t, 4> increase = {};  // channels that a block adds to the dense path
};

// timm's network with InsightFace's stem: a 3 x 3 convolution that keeps 112 x 112. The output, E
// where none is given, lies under "output.".
Graph MakeDpn(const DpnSpec& spec, const NetworkOptions& options);

}  // namespace fr
