#pragma once
// y = act(scale x + offset + residual) by channel: what is left of batch norm, bias, activation and
// shortcut in inference.

#include <optional>

#include <torch/torch.h>

#include "common/networks/graph.h"
#include "worker/backbones/kernels/backbone_kernels.h"

namespace fr {

// What a node of this kind does as such an activation; nothing if it is none.
std::optional<Activation> ActivationOf(Op op);

// Vectors are [c] float32, contiguous; all are there but a slope that is not needed.
struct Affine {
  at::Tensor scale;
  at::Tensor offset;
  Activation activation = Activation::kNone;
  at::Tensor slope;  // kPrelu alone
};

// x and residual (may be undefined) [n, c, h, w] channels-last or [n, c], of one type. In place if
// `in_place`: the result is x.
at::Tensor ApplyAffine(const Affine& affine, const at::Tensor& x, const at::Tensor& residual,
                       bool in_place);

// x becomes y = x + residual; returns scale y + offset.
at::Tensor SumThenAffine(const Affine& affine, at::Tensor& x, const at::Tensor& residual);

}  // namespace fr
