#pragma once
// Inception-ResNet-v2 (Szegedy et al., arXiv:1602.07261).

#include "common/networks/network.h"

namespace fr {

// timm's network, at 112 x 112: its last map is 2 x 2. The output, E where none is given, lies
// under "output.".
Graph MakeInceptionResnetV2(const NetworkOptions& options);

}  // namespace fr
