#pragma once
// MobileFaceNet (arXiv:1804.07573) as arcface_torch has it: `mbf`, blocks (1, 4, 6, 2), scale 2.

#include <memory>

#include "worker/backbones/backbone.h"

namespace fr {

std::shared_ptr<Backbone> MakeMobileFaceNet(const BackboneOptions& options);

}  // namespace fr
