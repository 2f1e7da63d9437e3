#pragma once
// Networks that turn aligned faces into embeddings.

#include <cstdint>
#include <memory>

#include <torch/torch.h>

#include "proto/job.pb.h"

namespace fr {

class Communicator;

struct BackboneOptions {
  Network network = Network::r50;
  std::int64_t embedding_size = 512;
  double dropout = 0.0;  // before the last layer of the IR networks
  // Not null: batch-norm layers take their training statistics over all ranks (BatchNormMode
  // global). Not owned; must outlive the backbone.
  Communicator* batch_norm_comm = nullptr;
};

// images [n, 3, 112, 112] float32, (x - 127.5) / 127.5, channels-last or contiguous
// -> embeddings [n, embedding_size] float32, not normalised.
// Parameters and buffers carry the names of InsightFace's arcface_torch, so that state dicts fit.
class Backbone : public torch::nn::Module {
 public:
  virtual torch::Tensor forward(const torch::Tensor& images) = 0;
};

// With weights drawn as arcface_torch draws them, from torch's default generator (seed it first:
// torch::manual_seed). Throws Error(kInvalidArgument) for sizes that make no network.
std::shared_ptr<Backbone> MakeBackbone(const BackboneOptions& options);

// Takes the mean over ranks of every floating-point buffer (batch-norm running statistics), which
// differ by rank when statistics are local. Collective.
void AverageBuffers(Backbone& backbone, Communicator& comm);

}  // namespace fr
