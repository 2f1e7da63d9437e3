#pragma once
// MobileNetV1 (Howard et al., arXiv:1704.04861) for 112 x 112, as InsightFace's fmobilenet.py.

#include "common/networks/network.h"

namespace fr {

// Parameters lie under fmobilenet.py's names with dots: conv_2_dw.conv2d, .batchnorm, .relu. The
// first convolution keeps 112 x 112, activations are PReLUs, the batch norms' scales stay 1 and
// their eps is 1e-3. The output is GDC where none is given; it is depthwise (fmobilenet.py passes
// the width of another network on to it, and gets pairs of channels).
Graph MakeMobileNet(const NetworkOptions& options);

}  // namespace fr
