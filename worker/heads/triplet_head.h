#pragma once
// Triplet loss (Schroff et al. 2015, FaceNet, arXiv:1503.03832): images of one identity nearer to
// each other than to any other image, by a margin. The batch is compared with itself: there are no
// rows of identities, and nothing to train but the backbone.
//
//   loss = mean over the chosen triplets of max(0, |a - p|^2 - |a - n|^2 + margin)
//
// with unit embeddings; what is chosen, worker/heads/triplet_mining.h. The mean is over what each
// mining's paper averages: kSemiHard and kAll choose only what costs something, so that the few
// triplets that are left late in training keep their weight (over all triplets, nearly all of them
// satisfied, the gradient would fade: Hermans et al. 2017, section 2); kHard has one triplet an
// anchor, satisfied ones among them, as that paper has it.

#include <cstdint>
#include <vector>

#include <torch/torch.h>

#include "worker/heads/head.h"
#include "worker/heads/triplet_mining.h"

namespace fr {

class Communicator;
struct GlobalBatch;

struct TripletHeadOptions {
  TripletMining mining = TripletMining::kSemiHard;
  double margin = 0.2;  // squared distance, in [0, 4]
  std::uint64_t seed = 1;
};

// Triplets are of the global batch: embeddings and labels are gathered, each rank takes its own
// images as anchors, and the gradients of all images go back to the ranks that have them. Any
// number of ranks chooses the same triplets. Memory beyond the gathered batch [B, D] and its
// gradient is a few rows of B distances.
//
// accuracy: rank-1 within the batch: of the images that have another one of their identity in it,
// the share whose nearest image is of their identity. A batch without a triplet has loss 0 and
// gradients 0.
class TripletHead final : public Head {
 public:
  // `comm` must outlive the head. Throws Error(kInvalidArgument) for a margin outside [0, 4].
  TripletHead(const TripletHeadOptions& options, Communicator& comm);

  HeadStepResult Step(const at::Tensor& embeddings, const at::Tensor& labels,
                      const std::vector<std::int64_t>& rows_per_rank, double lr) override;
  // Triplets are of the images of one call.
  HeadStepResult Accumulate(const at::Tensor& embeddings, const at::Tensor& labels,
                            const std::vector<std::int64_t>& rows_per_rank, double weight) override;
  void Update(double lr) override;
  void DropAccumulated() override {}

  IdentityRange range() const override { return {}; }
  std::vector<std::pair<std::string, at::Tensor>> RowTensors() override { return {}; }
  void RowsWritten() override {}
  at::Tensor StateTensor() const override;  // [1] float64: finished steps
  void SetState(const at::Tensor& state) override;

 private:
  HeadStepResult Run(const at::Tensor& embeddings, const at::Tensor& labels,
                     const std::vector<std::int64_t>& rows_per_rank, double weight);
  // The own anchors are the `count` images from batch.first_own on; batch.x are directions.
  TripletSums MineOwnAnchors(const GlobalBatch& batch, std::int64_t count,
                             at::Tensor* by_direction) const;

  TripletHeadOptions options_;
  Communicator& comm_;
  std::int64_t step_ = 0;
};

}  // namespace fr
