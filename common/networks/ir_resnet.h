#pragma once
// IR-ResNets (ArcFace, arXiv:1801.07698; arcface_torch's iresnet), also with
// squeeze-and-excitation (SE-ResNet-IR).

#include <array>

#include "common/networks/network.h"

namespace fr {

// `blocks`: IR blocks of the four stages, e.g. {3, 4, 14, 3} for r50.
Graph MakeIrResNet(const std::array<int, 4>& blocks, const NetworkOptions& options);

}  // namespace fr
