#pragma once
// Convolutions of every channel by itself, or of pairs of channels, on our own kernels.

#include <torch/torch.h>

#include "common/networks/graph.h"
#include "worker/backbones/kernels/backbone_kernels.h"

namespace fr {

// Whether the kernels can do the kConv node: groups of one or two channels, as many out as in,
// square, without bias.
bool IsDepthwise(const Graph& graph, int conv);

DepthwiseShape DepthwiseShapeOf(const Graph& graph, int conv);

// A convolution's weight [c, 1 or 2, k, k] in the kernels' order: [k k, c], or paired
// [k k, 2, c], of the own input and the neighbour's; and back.
at::Tensor ToTaps(const DepthwiseShape& shape, const at::Tensor& weight);
at::Tensor FromTaps(const DepthwiseShape& shape, const at::Tensor& taps);

// x [n, c, h, w] channels-last, float32 or bfloat16; weight as ToTaps gives it.
at::Tensor DepthwiseForward(DepthwiseShape shape, const at::Tensor& x, const at::Tensor& taps);
at::Tensor DepthwiseBackwardInput(DepthwiseShape shape, const at::Tensor& x, const at::Tensor& dy,
                                  const at::Tensor& taps);
// In ToTaps' order, float32.
at::Tensor DepthwiseBackwardWeight(DepthwiseShape shape, const at::Tensor& x, const at::Tensor& dy);

}  // namespace fr
