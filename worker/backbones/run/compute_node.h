#pragma once
// What a node computes, in stock LibTorch operators: the definition that everything faster is
// checked against, differentiable by autograd.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <torch/torch.h>

#include "common/networks/graph.h"
#include "worker/backbones/run/network_state.h"

namespace fr {

// Random numbers are functions of this, of the node and of the sample's place in the global batch:
// the same on any number of ranks, and again after a restart.
struct Draws {
  std::uint64_t key = 0;          // of the run and the step
  std::int64_t first_sample = 0;  // this rank's first, in the global batch
};

struct ComputeMode {
  bool training = false;
  // Dropout, drop path and hidden tokens; without it they do nothing, even in training.
  bool randomness = true;
  // Out and in: which tokens a kHideTokens node kept, [n, kept] int64, by node name. A node that is
  // computed again keeps the same; so do dropout and drop path (factors of their input).
  // Needed where there is randomness.
  std::map<std::string, at::Tensor>* drawn = nullptr;
  Draws draws;
};

// `inputs` [n, ...] float32 or bfloat16, the values of the node's inputs; `parameters` as
// NetworkState::Of gives them -> the node's value, of the inputs' type; kFlatten gives float32.
at::Tensor ComputeNode(const Graph& graph, int index, const std::vector<at::Tensor>& inputs,
                       const std::vector<at::Tensor>& parameters, const ComputeMode& mode);

// The whole graph, node after node: images [n, 3, h, w] -> embeddings [n, d] float32. `precision`
// bfloat16 computes as torch.autocast would, but for what follows kFlatten. With `values`, every
// node's value is kept there, by name.
at::Tensor ComputeGraph(const Graph& graph, const NetworkState& state, const at::Tensor& images,
                        at::ScalarType precision, const ComputeMode& mode,
                        std::map<std::string, at::Tensor>* values = nullptr);

// The same with parameters from elsewhere, by node index, and images of the type and layout that
// they shall have.
at::Tensor ComputeGraph(const Graph& graph, const std::vector<std::vector<at::Tensor>>& parameters,
                        const at::Tensor& images, const ComputeMode& mode,
                        std::map<std::string, at::Tensor>* values = nullptr);

}  // namespace fr
