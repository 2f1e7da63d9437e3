#pragma once
// The classification layer over identities: model-parallel ArcFace with an exact distributed
// softmax. docs/architecture.md, "The sharded margin head", is its specification.

#include <cstdint>
#include <vector>

#include <torch/torch.h>

#include "common/sharding/shard_plan.h"

namespace fr {

class Communicator;

struct MarginHeadOptions {
  std::int64_t embedding_size = 512;
  double scale = 64.0;
  double margin = 0.5;  // m2 of ArcFace, radians
  double momentum = 0.9;
  double weight_decay = 5e-4;
  std::uint64_t seed = 1;
  std::int64_t tile_rows =
      8192;  // identities per tile: bounds the memory beside weights and momentum
};

struct HeadStepResult {
  double loss = 0;  // mean cross-entropy over the global batch; the same on every rank
  double accuracy =
      0;  // share of the global batch whose target has the largest logit (margin applied)
  at::Tensor embedding_gradients;  // [local batch, D] float32: d loss / d (embeddings of this rank)
};

// Holds the rows of `range`: weights and momentum [range.size(), D] float32.
class MarginHead {
 public:
  // Rows are drawn from normal(0, 0.01) by (seed, identity, column), hence independent of the
  // number of ranks. `comm` must outlive the head.
  MarginHead(const MarginHeadOptions& options, IdentityRange range, Communicator& comm);

  // One training step. Collective. `embeddings` [rows_per_rank[rank], D] float32 (not
  // normalised), `labels` [rows_per_rank[rank]] int64 in [0, C). Two passes over tiles; weights and
  // momentum are updated inside the second one by SGD (v = momentum v + g + decay w; w -= lr v):
  // neither logits [B, C] nor the gradient [C, D] ever exist. Throws Error(kDataLoss) that names
  // rank and first row if an embedding or the loss is not finite.
  HeadStepResult Step(const at::Tensor& embeddings, const at::Tensor& labels,
                      const std::vector<std::int64_t>& rows_per_rank, double lr);

  IdentityRange range() const { return range_; }
  at::Tensor& weight() { return weight_; }
  at::Tensor& momentum() { return momentum_; }

 private:
  struct Target;
  struct Batch;
  // A target inside the present tile, after the margin.
  struct TileTarget {
    std::int64_t sample = 0;
    std::int64_t column = 0;  // within the tile
    float logit = 0;
    double derivative = 0;  // of the margin function
  };
  // Over all identities of all ranks.
  struct Softmax {
    at::Tensor log_sum_exp;    // [B] float64
    at::Tensor target_logits;  // [B] float64
    double accuracy = 0;
  };

  std::vector<Target> OwnTargets(const at::Tensor& labels) const;
  at::Tensor TileLogits(const Batch& batch, std::int64_t begin, std::int64_t end,
                        std::vector<TileTarget>* tile_targets) const;
  Softmax Normaliser(Batch& batch) const;                                                // pass 1
  at::Tensor UpdateTiles(const Batch& batch, const at::Tensor& log_sum_exp, double lr);  // pass 2
  void UpdateTile(const at::Tensor& h, const at::Tensor& inverse_norms, std::int64_t begin,
                  double lr);

  MarginHeadOptions options_;
  IdentityRange range_;
  Communicator& comm_;
  at::Tensor weight_;
  at::Tensor momentum_;
};

}  // namespace fr
