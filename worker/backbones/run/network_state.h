#pragma once
// The tensors of a network: what its graph only names.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <torch/torch.h>

#include "common/networks/graph.h"
#include "proto/job.pb.h"
#include "worker/checkpoint/safetensors.h"
#include "worker/optim/flat_parameters.h"

namespace fr {

class Communicator;

// float32 or bfloat16.
at::ScalarType ScalarTypeOf(Precision precision);

// Owns one tensor for every parameter of a graph, on ComputeDevice(). Trained ones are views of two
// flat buffers, values and gradients; 4-d weights lie channels-last. Everything is float32 but the
// counters (int64).
class NetworkState {
 public:
  // Zeros; Initialise() or Load() gives them values.
  // `trained`: with room for gradients, which only training needs.
  explicit NetworkState(const Graph& graph, bool trained = true);

  // Draws every tensor as the graph says, from torch's default generator seeded with `seed`.
  void Initialise(const Graph& graph, std::uint64_t seed);

  // Copies every tensor of `source` over the one of that name. Throws Error(kInvalidArgument) that
  // names the first one that is missing, unknown or of another shape; counters may be missing.
  // `what` is the source's name, for the message.
  void Load(const std::map<std::string, at::Tensor>& source, const std::string& what);

  // The tensors of a node, in the order of Node::parameters; trained ones carry their gradient as
  // `.grad()`.
  std::vector<at::Tensor> Of(const Node& node) const;
  const at::Tensor& Get(const std::string& name) const;

  // All of them, in graph order: views, not copies.
  NamedTensors Named() const;

  // Values and gradients of everything that is trained.
  FlatParameters& trained() { return trained_; }
  const FlatParameters& trained() const { return trained_; }

  // What training passes change besides: running statistics (float32) and counters (int64), in
  // graph order; views.
  NamedTensors Statistics() const;

  // Takes the mean over ranks of the running statistics, which differ by rank when batch norm is
  // local. Collective.
  void AverageRunning(Communicator& comm);

 private:
  FlatParameters trained_;
  std::vector<std::string> order_;
  std::vector<std::string> running_;
  std::vector<std::string> statistics_;  // running_ and the counters
  std::map<std::string, at::Tensor> tensors_;
};

}  // namespace fr
