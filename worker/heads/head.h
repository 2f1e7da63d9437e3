#pragma once
// What training asks of the last layer and its loss: embeddings in, their gradients out.
// MarginHead has rows of weights, one an identity; TripletHead has none.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <torch/torch.h>

#include "common/sharding/shard_plan.h"

namespace fr {

// Of one global batch. One struct for all heads: what a head does not have stays zero, and whoever
// reports knows by the job which curves there are.
struct HeadStepResult {
  double loss = 0;      // mean over the global batch, the same on every rank; the head says of what
  double accuracy = 0;  // a share in [0, 1] of the global batch, the same on every rank
  at::Tensor embedding_gradients;  // [local batch, D] float32: d loss / d (embeddings of this rank)

  // MarginHead
  double dropped_mass = 0;   // probability left out by mass_tolerance: the largest of any sample
  double skipped_share = 0;  // of the identities, by mass_tolerance
  std::int64_t own_targets = 0;  // samples whose identity is of this rank's range: its load

  // TripletHead, over all ranks
  std::int64_t active_triplets = 0;  // that cost something
  double active_share = 0;           // of the triplets that mining may choose
};

class Head {
 public:
  Head() = default;
  virtual ~Head() = default;
  Head(const Head&) = delete;
  Head& operator=(const Head&) = delete;

  // One training step. Collective. `embeddings` [rows_per_rank[rank], D] float32 (not normalised)
  // on ComputeDevice(), as their gradients are, `labels` [rows_per_rank[rank]] int64 in [0, C), on
  // the processor. Rows, where there are any, move by `lr`. Throws NonFiniteError (finite.h), on
  // every rank alike, if an embedding or the loss is not finite; rows and state are then what they
  // were.
  virtual HeadStepResult Step(const at::Tensor& embeddings, const at::Tensor& labels,
                              const std::vector<std::int64_t>& rows_per_rank, double lr) = 0;

  // The same in two parts, for a step of several batches: each adds `weight` times its gradients,
  // then Update moves the rows. The result is not weighted, but for embedding_gradients.
  virtual HeadStepResult Accumulate(const at::Tensor& embeddings, const at::Tensor& labels,
                                    const std::vector<std::int64_t>& rows_per_rank,
                                    double weight) = 0;
  virtual void Update(double lr) = 0;
  // Instead of Update: what was accumulated is forgotten.
  virtual void DropAccumulated() = 0;

  // For checkpoints. The identities whose rows this rank has; empty where there are no rows.
  virtual IdentityRange range() const = 0;
  // First dimension: the range's identities; float32. After writing into them, RowsWritten().
  virtual std::vector<std::pair<std::string, at::Tensor>> RowTensors() = 0;
  virtual void RowsWritten() = 0;
  // What is not per identity, the same on every rank: [k] float64, k by the kind of head.
  virtual at::Tensor StateTensor() const = 0;
  virtual void SetState(const at::Tensor& state) = 0;
};

}  // namespace fr
