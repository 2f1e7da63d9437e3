#pragma once
// A network as a TorchScript module, for PyTorch and LibTorch programs that know nothing of us.

#include <torch/script.h>

#include "common/networks/graph.h"
#include "worker/backbones/run/network_state.h"

namespace fr {

// A module with one submodule for each of the state dict's, so that its state_dict() is `state`'s
// tensors under their names, and forward(images [n, 3, h, w], normalised) -> embeddings [n, d], as
// in evaluation mode whatever `training` says. Tensors are copies.
torch::jit::Module MakeTorchScript(const Graph& graph, const NetworkState& state);

}  // namespace fr
