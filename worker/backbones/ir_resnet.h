#pragma once
// IR-ResNets with the E output (ArcFace, arXiv:1801.07698; arcface_torch's iresnet).

#include <array>
#include <memory>

#include "worker/backbones/backbone.h"

namespace fr {

// `blocks`: IR blocks of the four stages, e.g. {3, 4, 14, 3} for r50.
std::shared_ptr<Backbone> MakeIrResNet(const std::array<int, 4>& blocks,
                                       const BackboneOptions& options);

}  // namespace fr
