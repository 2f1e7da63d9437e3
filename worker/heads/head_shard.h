#pragma once
// One rank's rows of the head and the arithmetic on them, without communication: what a device
// implements. MarginHead (margin_head.h) puts the ranks together.

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch/torch.h>

#include "common/sharding/shard_plan.h"
#include "worker/heads/kernels/head_kernels.h"

namespace fr {

enum class HeadOptimizer : std::uint8_t { kSgd, kAdamW, kLars };

struct HeadShardOptions {
  std::int64_t embedding_size = 512;
  std::int64_t sub_centers = 1;  // rows an identity has; the nearest counts (ECCV 2020, p. 741)
  bool bf16_products = false;    // operands rounded to bfloat16; sums, rows and state float32
  bool normalizes_weights = true;
  bool unit_embeddings = true;  // SetBatch gets x / |x|
  bool bias = false;
  HeadOptimizer optimizer = HeadOptimizer::kSgd;
  double momentum = 0.9;            // kSgd, kLars
  bool nesterov = false;            // kSgd
  double weight_decay = 5e-4;       // Added to the gradient; kAdamW: decoupled. Not on biases.
  double beta1 = 0.9;               // kAdamW
  double beta2 = 0.999;             // kAdamW
  double epsilon = 1e-8;            // kAdamW
  double trust_coefficient = 1e-3;  // kLars: one ratio for all rows of all ranks; biases have none
  std::uint64_t seed = 1;
  const HeadKernels* kernels = nullptr;  // of the processor; nullptr: SelectHeadKernels()
  // Of a tile's rows, as they are multiplied; 0: what the device's second-level cache holds with
  // all else that is worked on.
  std::int64_t tile_bytes = 0;
};

// Which identities take part in a step: those of the batch and, of the others, each for which
// MixKeys(key, identity) >> 11 is below `limit`, of 2^53.
struct SampledShare {
  static constexpr std::uint64_t kAll = std::uint64_t{1} << 53;
  std::uint64_t key = 0;
  std::uint64_t limit = kAll;
};

// A sample of the global batch whose identity is of this shard.
struct OwnTarget {
  std::int64_t sample = 0;
  std::int64_t identity = 0;  // from the shard's first
  std::int64_t row = 0;       // its row, or the nearest of its sub-centers: set by TargetLogits
  float z = 0;                // logit without margin: set by TargetLogits
};

struct SoftmaxPass {
  at::Tensor largest;  // [B] float64: of the shard's negatives; kNoLogit if there are none
  at::Tensor sum;      // [B] float64: of exp(logit - largest)
  // Where bounds were asked for: each identity without a target has a bound, the most that any
  // sample's probability of it can be, and belongs to bin min(floor(-2 log bound), kBoundBins - 1).
  // mass_by_bin [kBoundBins, B] float64: at most so much of a sample's probability is in a bin.
  at::Tensor mass_by_bin;
};

struct GradientPass {
  at::Tensor dx;  // [B, D] float32
  // [B] float64: probability of the negatives that were not skipped; may be undefined where none
  // could be.
  at::Tensor mass;
  std::int64_t skipped = 0;  // identities whose products were left out
};

class HeadShard {
 public:
  virtual ~HeadShard() = default;

  // A step runs through these in this order.

  // The global batch [B, D] float32, contiguous: what is multiplied with the rows. The targets are
  // ascending by identity.
  virtual void SetBatch(const at::Tensor& x, std::vector<OwnTarget> targets,
                        const SampledShare& share) = 0;
  // z of this shard's targets, summed in float64. [B] float64, 0 where another shard has it.
  virtual at::Tensor TargetLogits(double scale) = 0;
  // `references` [B] float64, surely at most the final log-sum-exps (the targets' logits), asks for
  // mass_by_bin; undefined: no bounds.
  virtual SoftmaxPass Softmax(double scale, const NegativeRule& rule,
                              const at::Tensor& references) = 0;
  // target_gradients [B] float64: d loss / d z of each sample's target. share: d loss / d a
  // sample's cross-entropy. Identities with -4 bound >= skip_from are skipped (skip_from < 0:
  // none); the rows in the batch move by `update`, the skipped ones without a gradient.
  virtual GradientPass Gradients(double scale, const NegativeRule& rule,
                                 const at::Tensor& log_sum_exp, double share,
                                 const at::Tensor& target_gradients, int skip_from,
                                 const RowUpdate& update) = 0;
  // After passes with kAccumulate: moves the rows that took part by what they accumulated.
  virtual void ApplyAccumulated(const RowUpdate& update) = 0;
  // Sums over the rows that took part in them: [2] float64, of the squares of the rows and of what
  // they accumulated.
  virtual at::Tensor AccumulatedSquares() = 0;
  // Instead: sets what they accumulated to zero.
  virtual void DropAccumulated() = 0;

  // First dimension: the shard's identities. "weight" [n, D] ([n, K, D] with sub-centers) first,
  // then the optimizer's state, each float32. After writing into them, RowsWritten().
  virtual std::vector<std::pair<std::string, at::Tensor>> RowTensors() = 0;
  virtual void RowsWritten() = 0;
};

// RowTensors of a shard of `identities` whose tensors are these, [rows, padded columns] or [rows],
// undefined where the options ask for none.
struct RowStorage {
  at::Tensor weight, first, second, bias, bias_first, bias_second;
};
std::vector<std::pair<std::string, at::Tensor>> NamedRowTensors(const HeadShardOptions& options,
                                                                std::int64_t identities,
                                                                const RowStorage& storage);

// The first values of `count` rows of the shard of `range` from row `first` on, by several threads:
// [count][stride] float32, of which each row's first D are written.
void DrawInitialRows(const HeadShardOptions& options, IdentityRange range, std::int64_t first,
                     std::int64_t count, float* rows, std::int64_t stride);

// Rows begin as normal(0, 0.01) numbers by (seed, identity, column).
std::unique_ptr<HeadShard> MakeCpuHeadShard(const HeadShardOptions& options, IdentityRange range);

}  // namespace fr
