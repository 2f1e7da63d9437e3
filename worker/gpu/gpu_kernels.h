#pragma once
// What we compute on a GPU with kernels of our own: the head, normalisation with its activation,
// optimizers, triplet mining, the network's input. One source (kernels/*.cu), compiled by nvcc for
// GPUs of compute capability 8.0 and newer, and by the C++ compiler for the tests' emulation. No
// LibTorch and no CUDA headers here.
//
// Every function gives work to `stream` and returns; pointers are to the GPU's memory, and what
// they point to lives until the work is done. Sums are taken in an order that is the same in every
// run. A launch that fails throws Error(kUnavailable).

#include <cstdint>

#include "common/plan/gpu_sizes.h"
#include "worker/backbones/kernels/backbone_kernels.h"
#include "worker/gpu/gpu_stream.h"
#include "worker/heads/kernels/head_kernels.h"
#include "worker/optim/updates.h"

namespace fr {

// ---- The head --------------------------------------------------------------------------------
//
// Products run on tensor cores, on bfloat16 operands with float32 sums. An operand lies in planes:
// value = plane 0 + plane 1 + plane 2, each a bfloat16 (stored as its 16 bits). One plane is a
// product of rounded operands; three are float32 to its last bit or two, at six times the products.
//
// A tile is some thousand rows: `rows` of them, of the shard's row numbers row[i], or first + i
// where `row` is null. Columns are the embedding size rounded up to kGpuStep, samples the global
// batch rounded up likewise; what is added is zero.

using Bf16Bits = std::uint16_t;

// Units of GpuBounds::mass a probability of 1 has.
inline constexpr double kMassUnits = 0x1p36;

struct GpuRows {
  std::int64_t rows = 0;
  std::int64_t first = 0;
  const std::int64_t* row = nullptr;  // [rows]
  std::int64_t columns = 0;
};

// A [rows][columns] operand in `planes` planes, each [rows][columns].
struct GpuOperand {
  Bf16Bits* data = nullptr;
  int planes = 1;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  // Of elements, from one plane to the next: rows may be fewer than there is room for.
  std::int64_t plane_stride = 0;
};

// A target in the tile's rows, found by its row; targets are ascending by row.
struct GpuTarget {
  std::int64_t row = 0;
  std::int32_t sample = 0;
  float z = 0;         // logit without margin
  float gradient = 0;  // d loss / d z
};

// What both passes compute of a tile: z[i][b] = factor[i] w[i] . x[b] + bias[i], the nearest of
// each identity's `sub_centers` rows, without targets, which `rule` then sees.
struct GpuLogits {
  GpuRows tile;
  GpuOperand w;                   // [tile.rows][columns]
  GpuOperand x;                   // [samples][columns]
  std::int64_t batch = 0;         // samples that are no padding
  const float* factor = nullptr;  // [tile.rows]
  const float* bias = nullptr;    // [rows of the shard]; null: none
  int sub_centers = 1;            // at most kGpuBlock
  const GpuTarget* targets = nullptr;
  std::int64_t num_targets = 0;
  NegativeRule rule;  // rule.hard is in the GPU's memory
};

struct GpuBounds {
  const float* reference = nullptr;  // [samples]: at most the log-sum-exp
  // [identities of the shard], lowered to the bin of SoftmaxPass that a block's samples find; -1:
  // an identity that has a target, or a sample whose probability of it may be anything.
  std::int32_t* bin = nullptr;
  // [kBoundBins][samples], added to, rounded up. By the bins that the sample's own block finds,
  // which are at least the identity's: the mass from any bin on is no less than what is there.
  unsigned long long* mass = nullptr;
};

struct GpuSoftmax {
  GpuLogits logits;
  float* largest = nullptr;  // [blocks][samples], by GpuBlockRows
  float* sum = nullptr;      // [blocks][samples]: of exp(logit - largest)
  GpuBounds bounds;          // reference null: no bounds
};

// Merges a tile's [blocks][samples] into what is known, `largest` and `sum` [samples] float64.
struct GpuSoftmaxMerge {
  const float* block_largest = nullptr;
  const float* block_sum = nullptr;
  std::int64_t blocks = 0;
  std::int64_t samples = 0;
  double* largest = nullptr;
  double* sum = nullptr;
  const double* lower = nullptr;  // [samples], with `reference`: surely at most the log-sum-exp
  float* reference = nullptr;     // [samples] out, may be null: log(exp(lower) + what was merged),
                                  // rounded down
};

struct GpuCoefficients {
  GpuLogits logits;
  const float* log_sum_exp = nullptr;  // [samples]; +inf where there is only padding
  float share = 0;
  GpuOperand g;            // out: [tile.rows][samples], factor d
  float* along = nullptr;  // out: [sample blocks][tile.rows], sums of d z
  float* total = nullptr;  // out: [sample blocks][tile.rows], sums of d
  float* mass = nullptr;   // out, may be null: [blocks][samples], sums of exp(...)
};

// Of the shard, [rows][columns] float32 each.
struct GpuRowState {
  float* w = nullptr;
  float* first = nullptr;     // momentum or first moment
  float* second = nullptr;    // second moment; null: none
  float* gradient = nullptr;  // what was accumulated
  // [rows]; null: no biases
  float* bias = nullptr;
  float* bias_first = nullptr;
  float* bias_second = nullptr;
  float* bias_gradient = nullptr;
};

// radial[i] = normalised ? sum over blocks of along / |w|^2 : 0, and the biases move by `total`.
struct GpuRowSums {
  GpuRows tile;
  const float* along = nullptr;  // [sample blocks][tile.rows]
  const float* total = nullptr;
  std::int64_t sample_blocks = 0;
  const float* inverse_norm = nullptr;  // [tile.rows]; null: not normalised
  float* radial = nullptr;              // out: [tile.rows]
  GpuRowState state;
  RowUpdate update;
};

// G[i] = sum over samples of g[i] x - radial[i] w[i], and the rows move by it; with kAccumulate
// state.gradient does.
struct GpuRowProducts {
  GpuRows tile;
  GpuOperand g;  // [tile.rows][samples]
  GpuOperand x;  // [samples][columns]
  const float* radial = nullptr;
  GpuRowState state;
  RowUpdate update;
};

// partial[s] += transpose(g) w over the s-th part of the tile's rows.
struct GpuEmbeddingGradients {
  GpuOperand g;  // [tile.rows][samples]
  GpuOperand w;  // [tile.rows][columns]
  int splits = 1;
  float* partial = nullptr;  // [splits][samples][columns]
};

// Rows that move without a product: those that were skipped, whose gradient is 0, or, with
// `accumulated`, by state.gradient, which is set to 0.
struct GpuRowMoves {
  GpuRows tile;
  bool accumulated = false;
  GpuRowState state;
  RowUpdate update;
};

// w as an operand, and what its rows' lengths make of the logits.
struct GpuNarrowRows {
  GpuRows tile;
  const float* w = nullptr;  // [rows of the shard][columns]
  bool normalised = true;
  float scale = 1;
  GpuOperand out;                 // [tile.rows][columns]
  float* factor = nullptr;        // out: [tile.rows] scale / |w|, or scale
  float* inverse_norm = nullptr;  // out: [tile.rows] 1 / |w|
};

// The targets' logits without margin, in float64: z[t] is target t's, best_row[t] the nearest of
// its identity's rows.
struct GpuTargetLogits {
  std::int64_t num_targets = 0;
  const std::int64_t* identity = nullptr;  // [num_targets]
  const std::int64_t* sample = nullptr;    // [num_targets]
  const float* w = nullptr;
  const float* bias = nullptr;  // [rows]; null: none
  std::int64_t columns = 0;
  int sub_centers = 1;
  const float* x = nullptr;  // [batch][x_columns]
  std::int64_t x_columns = 0;
  double scale = 1;
  bool normalised_rows = true;
  bool unit_samples = true;
  double* z = nullptr;
  std::int64_t* best_row = nullptr;
};

// squares[2 i], [2 i + 1]: of tile row i's weights, and of what it accumulated; float64.
struct GpuRowSquares {
  GpuRows tile;
  const float* w = nullptr;
  const float* gradient = nullptr;
  double* squares = nullptr;
};

// out[i] = sum over parts of partial[part][i], in float64.
struct GpuSumParts {
  const float* partial = nullptr;
  std::int64_t parts = 0;
  std::int64_t size = 0;
  float* out = nullptr;  // one of the two
  double* out64 = nullptr;
};

// takes_part[i] = MixKeys(key, first + i) >> 11 < limit.
struct GpuSample {
  std::int64_t first = 0;
  std::int64_t size = 0;
  std::uint64_t key = 0;
  std::uint64_t limit = 0;
  std::uint8_t* takes_part = nullptr;
};

// ---- Normalisation ---------------------------------------------------------------------------
//
// Of channels-last rows, as backbone_kernels.h describes; vectors by channel are on the GPU, and so
// is everything between the passes: nothing waits for the processor. Multiples of 8 channels are
// fastest.

// sums [2][channels] float64, of x - shift and its square; the shift is x's first row, or zeros
// where there is none.
struct GpuMoments {
  bool bf16 = false;
  std::int64_t rows = 0;
  std::int64_t channels = 0;
  const void* x = nullptr;
  float* partial = nullptr;  // [GpuNormParts(rows, channels)][2][channels]
  double* sums = nullptr;    // out: [2][channels]
  float* shift = nullptr;    // out: [channels]
};

// What a batch's moments make of a batch norm, by channel.
struct GpuNormVectors {
  float* mean = nullptr;  // out, all of them: [channels]
  float* inverse_std = nullptr;
  float* scale = nullptr;
  float* offset = nullptr;
};
struct GpuNormStatistics {
  std::int64_t channels = 0;
  // Of rows, of all ranks, in float64; the batch's own where null.
  const double* count = nullptr;
  double own_count = 0;
  // [2][channels]: as GpuMoments gives them where there is a shift; else of x, and of the squares
  // around its mean.
  const double* sums = nullptr;
  const float* shift = nullptr;
  double epsilon = 0;
  const float* weight = nullptr;
  const float* bias = nullptr;
  GpuNormVectors out;
  // Null: not moved. Moved by a tenth, unless the batch's variance is not finite.
  float* running_mean = nullptr;
  float* running_variance = nullptr;
  std::int64_t* batches = nullptr;
};

struct GpuNormBackwardSums {
  NormBackward work;  // scale, offset, slope and mean are read
  std::int64_t rows = 0;
  float* partial = nullptr;  // [GpuNormParts(rows, channels)][3][channels]
  double* sums = nullptr;    // out: [3][channels]: g, g (x - mean), dy v where not v > 0
};

// The gradients of weight, bias and slope are added to; a, b, d of NormBackward are computed.
struct GpuNormGradients {
  std::int64_t channels = 0;
  const double* own = nullptr;    // [3][channels], of GpuNormBackwardSums
  const double* all = nullptr;    // [2][channels], over all ranks; own where null
  const double* count = nullptr;  // as in GpuNormStatistics
  double own_count = 0;
  const float* weight = nullptr;
  const float* mean = nullptr;
  const float* inverse_std = nullptr;
  float* weight_gradient = nullptr;  // null, each of them: not trained, or no PReLU
  float* bias_gradient = nullptr;
  float* slope_gradient = nullptr;
  float* a = nullptr;
  float* b = nullptr;
  float* d = nullptr;
};

// ---- Flat buffers ----------------------------------------------------------------------------

// A buffer cut into pieces of one parameter each (flat_pieces.h).
struct GpuPieces {
  const std::int64_t* begin = nullptr;      // [pieces]
  const std::int64_t* end = nullptr;        // [pieces]
  const std::int32_t* parameter = nullptr;  // [pieces]
  std::int64_t pieces = 0;
};

struct GpuMomentumPass {
  GpuPieces pieces;
  MomentumRule rule;             // without decay and gain
  const float* decay = nullptr;  // [parameters]
  const float* gain = nullptr;   // [parameters]; null: 1
  float* w = nullptr;
  float* g = nullptr;
  float* v = nullptr;
};

struct GpuAdamPass {
  GpuPieces pieces;
  AdamRule rule;                // without keep
  const float* keep = nullptr;  // [parameters]
  float* w = nullptr;
  float* g = nullptr;
  float* m = nullptr;
  float* v = nullptr;
};

// ---- Triplets --------------------------------------------------------------------------------

// MineAnchor (triplet_mining.h) for `anchors` anchors at once.
struct GpuMining {
  int mining = 0;  // TripletMining
  double margin = 0;
  std::uint64_t key = 0;
  std::int64_t anchors = 0;
  std::int64_t first = 0;  // the first anchor's place in the batch
  std::int64_t batch = 0;
  const float* distances = nullptr;      // [anchors][batch]
  const std::int64_t* labels = nullptr;  // [batch]
  float* coefficients = nullptr;         // [anchors][batch], zeros before
  double* sums = nullptr;                // out: [anchors][6], TripletSums in its order
};

// ---- Input -----------------------------------------------------------------------------------

// out = (pixel - mean) / std of each.
struct GpuPixels {
  const std::uint8_t* pixels = nullptr;
  std::int64_t size = 0;
  float mean = 0;
  float std = 1;
  bool bf16 = false;
  void* out = nullptr;
};

// Parts of GpuSumSquares.
inline constexpr std::int64_t kSquareParts = 1024;

struct GpuKernels {
  const char* name;

  void (*narrow_rows)(const GpuNarrowRows& work, GpuStream stream);
  // x [rows][columns_in] float32 -> out, padded by zeros.
  void (*narrow)(const float* x, std::int64_t rows, std::int64_t columns_in, const GpuOperand& out,
                 GpuStream stream);
  void (*target_logits)(const GpuTargetLogits& work, GpuStream stream);
  void (*softmax)(const GpuSoftmax& work, GpuStream stream);
  void (*merge_softmax)(const GpuSoftmaxMerge& work, GpuStream stream);
  void (*coefficients)(const GpuCoefficients& work, GpuStream stream);
  void (*row_sums)(const GpuRowSums& work, GpuStream stream);
  void (*embedding_gradients)(const GpuEmbeddingGradients& work, GpuStream stream);
  void (*row_products)(const GpuRowProducts& work, GpuStream stream);
  void (*move_rows)(const GpuRowMoves& work, GpuStream stream);
  void (*row_squares)(const GpuRowSquares& work, GpuStream stream);
  void (*sum_parts)(const GpuSumParts& work, GpuStream stream);
  void (*sample)(const GpuSample& work, GpuStream stream);

  // `then` (may be null) in the same launch: what the sums are wanted for, of which `sums` and
  // `shift` are set here.
  void (*moments)(const GpuMoments& work, const GpuNormStatistics* then, GpuStream stream);
  void (*norm_statistics)(const GpuNormStatistics& work, GpuStream stream);
  void (*norm_forward)(const NormForward& work, std::int64_t rows, GpuStream stream);
  void (*sum_norm)(const SumNorm& work, std::int64_t rows, GpuStream stream);
  // Likewise, of which `own` is set here.
  void (*norm_backward_sums)(const GpuNormBackwardSums& work, const GpuNormGradients* then,
                             GpuStream stream);
  void (*norm_gradients)(const GpuNormGradients& work, GpuStream stream);
  void (*norm_backward_input)(const NormBackward& work, std::int64_t rows, GpuStream stream);

  void (*momentum_pass)(const GpuMomentumPass& work, GpuStream stream);
  void (*adam_pass)(const GpuAdamPass& work, GpuStream stream);
  // average += share (w - average)
  void (*move_towards)(float* average, const float* w, std::int64_t size, float share,
                       GpuStream stream);
  // Of each of kSquareParts equal parts, float64.
  void (*sum_squares)(const float* x, std::int64_t size, double* parts, GpuStream stream);
  // Of each piece: of a and of b; [pieces][2] float64.
  void (*piece_squares)(const GpuPieces& pieces, const float* a, const float* b, double* squares,
                        GpuStream stream);

  void (*mine)(const GpuMining& work, GpuStream stream);
  void (*pixels)(const GpuPixels& work, GpuStream stream);
};

}  // namespace fr
