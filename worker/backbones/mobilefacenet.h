#pragma once
// MobileFaceNet (Chen et al., arXiv:1804.07573), and InsightFace's wider ones.

#include <array>

#include "worker/backbones/network.h"

namespace fr {

// arcface_torch's mbf ({1, 4, 6, 2}, scale 2) and mbf_large ({2, 8, 12, 4}, scale 4): residual
// blocks of the four stages, `scale` times the paper's channels.
Graph MakeMobileFaceNet(const std::array<int, 4>& blocks, int scale, const NetworkOptions& options);

}  // namespace fr
