#pragma once
// MobileFaceNet (Chen et al., arXiv:1804.07573), and InsightFace's wider ones.

#include <array>
#include <cstdint>

#include "common/networks/network.h"

namespace fr {

struct MobileFaceNetSpec {
  std::array<int, 4> blocks = {1, 4, 6, 2};  // residual blocks of the four stages
  std::int64_t scale = 1;                    // times the paper's channels
  // Details as in InsightFace's MXNet code, not as in arcface_torch: eps 1e-3, and 2e-5 of the last
  // batch norm, whose scale stays 1; a bias in the linear layer.
  bool mxnet = false;
};

// Parameters carry arcface_torch's names in both cases.
Graph MakeMobileFaceNet(const MobileFaceNetSpec& spec, const NetworkOptions& options);

}  // namespace fr
