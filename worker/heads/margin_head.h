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
#include "worker/heads/head.h"
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

// Holds the rows of `range`, on ComputeDevice(). The loss is the mean cross-entropy over the global
// batch, with MagFace and the cost of the norms; the accuracy is the share of it whose target has
// the largest logit (margin applied).
class MarginHead final : public Head {
 public:
  // `comm` must outlive the head. Throws Error(kInvalidArgument) for options that make no sense.
  MarginHead(const MarginHeadOptions& options, IdentityRange range, Communicator& comm);

  // Two passes over tiles; the rows and the optimizer's state are updated inside the second one:
  // neither logits [B, C] nor the gradient [C, D] ever exist.
  HeadStepResult Step(const at::Tensor& embeddings, const at::Tensor& labels,
                      const std::vector<std::int64_t>& rows_per_rank, double lr) override;
  // Accumulates the gradient, a [C, D] float32. With LARS, whose rate needs the norm of all of it,
  // Step does so, too.
  HeadStepResult Accumulate(const at::Tensor& embeddings, const at::Tensor& labels,
                            const std::vector<std::int64_t>& rows_per_rank, double weight) override;
  // With LARS throws NonFiniteError if the gradient's norm is not finite.
  void Update(double lr) override;
  void DropAccumulated() override;

  IdentityRange range() const override { return range_; }
  // HeadShard::RowTensors.
  std::vector<std::pair<std::string, at::Tensor>> RowTensors() override {
    return shard_->RowTensors();
  }
  void RowsWritten() override { shard_->RowsWritten(); }
  at::Tensor StateTensor() const override;  // [4] float64, MarginState in its order
  void SetState(const at::Tensor& state) override;

 private:
  struct Batch;
  struct Loss;

  HeadStepResult Run(const at::Tensor& embeddings, const at::Tensor& labels,
                     const std::vector<std::int64_t>& rows_per_rank, double weight,
                     const RowUpdate& update);
  Batch Gather(const at::Tensor& embeddings, const at::Tensor& labels,
               const std::vector<std::int64_t>& rows_per_rank);
  SampledShare Share() const;
  NegativeRule Negatives(const std::vector<TargetLogit>& targets, std::vector<float>* hard) const;
  Loss Softmax(const std::vector<TargetLogit>& targets, const NegativeRule& rule);
  int SkipFrom(const at::Tensor& mass_by_bin) const;
  double TrustRatioOfRows();

  MarginHeadOptions options_;
  IdentityRange range_;
  Communicator& comm_;
  std::unique_ptr<HeadShard> shard_;
  MarginState state_;
};

}  // namespace fr
