#pragma once
// The kinds of steps that training is made of. `state` outlives them.

#include <memory>

#include "common/networks/fused_norms.h"
#include "common/networks/graph.h"
#include "worker/backbones/run/network_state.h"
#include "worker/backbones/run/tape.h"

namespace fr {

// Two passes over memory each way, in float32 with sums in float64, whatever the activations' type.
// With `comm` (may be null) the statistics are those of all ranks: forward and backward are then
// collective, and there may be no images on some ranks.
std::unique_ptr<Step> MakeNormStep(const Graph& graph, const NormNodes& nodes,
                                   const NetworkState& state, Communicator* comm);

// A convolution: depthwise and paired ones (groups of two channels) by kernels of our own, the rest
// by LibTorch's (oneDNN). Gradients of weights are added in float32.
std::unique_ptr<Step> MakeConvStep(const Graph& graph, int node, const NetworkState& state);

std::unique_ptr<Step> MakeLinearStep(const Graph& graph, int node, const NetworkState& state);

// a + factor b; gradients are handed on, not copied.
std::unique_ptr<Step> MakeAddStep(const Graph& graph, int node);

// Any node, by ComputeNode and autograd.
std::unique_ptr<Step> MakeAutogradStep(const Graph& graph, int node, const NetworkState& state);

}  // namespace fr
