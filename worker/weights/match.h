#pragma once
// Whether a foreign network is one of ours, and if so, which of its tensors is which of ours.

#include <map>
#include <string>

#include "common/networks/graph.h"
#include "worker/weights/foreign_graph.h"
#include "worker/weights/host_tensor.h"

namespace fr {

// Compares the structure from the embedding backwards: same operations, same attributes, same
// shapes; names do not count. Dropout, identity, casts and flattening are passed over on both
// sides; the inputs of a sum or product may come in either order.
//
// Returns a float32 tensor of our shape for every parameter of ours except the counters
// (num_batches_tracked): with them our network computes in evaluation what theirs does, given
// theirs.preprocessing. Exactly so where a batch norm of theirs
//   - has another eps: running_var' = running_var + (their eps - ours);
//   - was folded into the convolution or linear layer before it: ours becomes the identity
//     (running_mean 0, weight / sqrt(running_var + eps) = 1) plus the folded bias;
//   - follows a convolution whose bias ours does not have: running_mean' = running_mean - bias.
//
// Throws Error(kInvalidArgument) with the place nearest to the embedding at which the two differ:
// our node, their node, and what differs.
std::map<std::string, HostTensor> MatchForeignGraph(const Graph& ours, const ForeignGraph& theirs);

}  // namespace fr
