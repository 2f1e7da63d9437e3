#pragma once
// DenseNet-BC (Huang et al., arXiv:1608.06993) for 112 x 112.

#include <array>
#include <cstdint>

#include "common/networks/network.h"

namespace fr {

struct DenseNetSpec {
  std::int64_t growth = 32;        // channels that a layer adds
  std::array<int, 4> layers = {};  // of the four dense blocks
};

// torchvision's network with InsightFace's stem: a 3 x 3 convolution that keeps 112 x 112 in place
// of the 7 x 7 with stride 2. The output, E where none is given, lies under "output.".
Graph MakeDenseNet(const DenseNetSpec& spec, const NetworkOptions& options);

}  // namespace fr
