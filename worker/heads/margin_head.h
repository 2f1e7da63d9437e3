#pragma once
// The classification layer over identities: model-parallel, with a margin and an exact distributed
// softmax. docs/architecture.md, "The sharded margin head", is its specification.

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch/torch.h>

#include "common/sharding/shard_plan.h"
#include "worker/heads/head_shard.h"
#include "worker/heads/margin.h"

namespace fr {

class Communicator;

struct MarginHeadOptions {
  MarginOptions margin = DefaultMargin(MarginType::kArcFace);
  // normalizes_weights, unit_embeddings and bias are the margin's.
  HeadShardOptions shard;
  // Below 1: a step has all identities of its batch and of the others this share, chosen by (seed,
  // step, identity) - the same on any number of ranks (PartialFC, arXiv:2203.15565). Rows that are
  // not chosen do not move, and neither does their optimizer state.
  double sample_rate = 1;
  // Above 0: identities may be left out of the backward products while what each sample loses of
  // its probability stays at or below this.
  double mass_tolerance = 0;
};

struct HeadStepResult {
  double loss = 0;  // mean over the global batch, the same on every rank: cross-entropy, with
                    // MagFace the cost of the norms
  double accuracy =
      0;  // share of the global batch whose target has the largest logit (margin applied)
  double dropped_mass = 0;   // probability left out by mass_tolerance: the largest of any sample
  double skipped_share = 0;  // of the identities, by mass_tolerance
  at::Tensor embedding_gradients;  // [local batch, D] float32: d loss / d (embeddings of this rank)
};

// Holds the rows of `range`.
class MarginHead {
 public:
  // `comm` must outlive the head. Throws Error(kInvalidArgument) for options that make no sense.
  MarginHead(const MarginHeadOptions& options, IdentityRange range, Communicator& comm);

  // One training step. Collective. `embeddings` [rows_per_rank[rank], D] float32 (not
  // normalised), `labels` [rows_per_rank[rank]] int64 in [0, C). Two passes over tiles; the rows
  // and the optimizer's state are updated inside the second one: neither logits [B, C] nor the
  // gradient [C, D] ever exist. Throws Error(kDataLoss) that names step, rank and row if an
  // embedding or the loss is not finite; the rows are then what they were.
  HeadStepResult Step(const at::Tensor& embeddings, const at::Tensor& labels,
                      const std::vector<std::int64_t>& rows_per_rank, double lr);

  // The same in two parts, for a step of several batches: each adds `weight` times its gradients
  // (a [C, D] float32 of them), then Update moves the rows. The result is not weighted, but for
  // embedding_gradients.
  HeadStepResult Accumulate(const at::Tensor& embeddings, const at::Tensor& labels,
                            const std::vector<std::int64_t>& rows_per_rank, double weight);
  void Update(double lr);

  IdentityRange range() const { return range_; }
  // Per identity of the range; HeadShard::RowTensors. Call RowsWritten after writing into them.
  std::vector<std::pair<std::string, at::Tensor>> RowTensors() { return shard_->RowTensors(); }
  void RowsWritten() { shard_->RowsWritten(); }
  // What is not per identity, the same on every rank: [4] float64, MarginState in its order.
  at::Tensor StateTensor() const;
  void SetState(const at::Tensor& state);

 private:
  struct Batch;
  struct Loss;

  HeadStepResult Run(const at::Tensor& embeddings, const at::Tensor& labels,
                     const std::vector<std::int64_t>& rows_per_rank, double weight,
                     const RowUpdate& update);
  Batch Gather(const at::Tensor& embeddings, const at::Tensor& labels,
               const std::vector<std::int64_t>& rows_per_rank);
  std::vector<std::int64_t> SampledIdentities(const std::vector<OwnTarget>& targets) const;
  NegativeRule Negatives(const std::vector<TargetLogit>& targets, std::vector<float>* hard) const;
  Loss Softmax(const std::vector<TargetLogit>& targets, const NegativeRule& rule);
  int SkipFrom(const at::Tensor& mass_by_bin) const;
  RowUpdate NextUpdate(double lr) const;

  MarginHeadOptions options_;
  IdentityRange range_;
  Communicator& comm_;
  std::unique_ptr<HeadShard> shard_;
  MarginState state_;
};

}  // namespace fr
