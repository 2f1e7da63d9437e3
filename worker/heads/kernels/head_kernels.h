#pragma once
// The inner loops of the margin head on a processor: hand-written for AVX-512, AVX2 and any other
// machine, from one source (head_kernels.inc). No LibTorch here.
//
// Words. Every product runs over 32-bit words: in float32 a word is one value; in bfloat16 it is
// two neighbours along the summed dimension (the first in the low half), summed in float32.
//
// Panels. The right-hand operand of a product, [K words][N columns], is stored as panels of 64
// columns (the last one narrower), each [K][its width] and contiguous: PanelOffset().
//
// Tiles. A tile is `rows` class rows of the shard; its logits z and coefficients g are
// [rows][samples] float32. `samples` is the global batch rounded up to kSampleStep, D the embedding
// size rounded up to kColumnStep; what is added is zero.

#include <cstdint>

namespace fr {

inline constexpr std::int64_t kSampleStep = 16;
inline constexpr std::int64_t kColumnStep = 16;
inline constexpr std::int64_t kPanelColumns = 64;

// Words before the panel that holds column `column` (a multiple of 64) of K x N words.
inline constexpr std::int64_t PanelOffset(std::int64_t column, std::int64_t k) {
  return column * k;
}

// A logit so low that its probability is 0 whatever the others are; unlike -inf, 0 times it is 0.
inline constexpr float kNoLogit = -1e30F;

// A row this short has no direction: its logits are those of a longer one in the same direction.
inline constexpr float kMinRowNorm = 1e-12F;

// Bins of bounds on probabilities (head_shard.h), of half an e-fold each: down to exp(-48).
inline constexpr int kBoundBins = 96;

// What becomes of the logits that are no target's. z = scale * cosine.
struct NegativeRule {
  enum class Kind : std::uint8_t {
    kAsIs,
    kFilter,      // above `threshold` (a logit): the logit is 0 and has no gradient (InsightFace)
    kCurricular,  // above hard[sample] (a logit): z (t + z / scale) (CurricularFace)
  };
  Kind kind = Kind::kAsIs;
  float threshold = 0;
  float t = 0;
  float inverse_scale = 0;
  const float* hard = nullptr;  // [samples]
};

// What a row's gradient does to the row.
struct RowUpdate {
  enum class Kind : std::uint8_t {
    // With G = g + decay w: first = momentum first + gain G;
    // w -= by_momentum first + by_gradient G. SGD, with Nesterov's momentum, too, and LARS.
    kMomentum,
    kAdamW,       // Loshchilov and Hutter, arXiv:1711.05101, as torch.optim.AdamW
    kAccumulate,  // first += g; w stays
  };
  Kind kind = Kind::kMomentum;
  float lr = 0;  // kAdamW
  float decay = 0;
  float momentum = 0;     // kMomentum
  float gain = 1;         // kMomentum
  float bias_gain = 1;    // kMomentum: `gain` of biases, which are not the kernels' business
  float by_momentum = 0;  // kMomentum
  float by_gradient = 0;  // kMomentum
  float beta1 = 0;        // kAdamW
  float rest1 = 1;        // kAdamW: 1 - beta1, which float32 would not have to seven digits
  float beta2 = 0;        // kAdamW
  float rest2 = 1;        // kAdamW: 1 - beta2
  float epsilon = 0;      // kAdamW
  float inverse_correction1 = 1;  // kAdamW: 1 / (1 - beta1^t)
  float inverse_correction2 = 1;  // kAdamW: 1 / (1 - beta2^t)
};

// The rows a tile updates; row i is at w[i], first[i], second[i], [D] each.
struct TileRows {
  float* const* w = nullptr;
  float* const* first = nullptr;     // momentum, first moment or gradient sum
  float* const* second = nullptr;    // second moment; kAdamW alone, else null
  const float* radial = nullptr;     // [rows] times w is taken from the gradient
  float* squared_norm = nullptr;     // [rows] out: of the row after the update
  float* const* gradient = nullptr;  // added to the row's gradient, and set to zero; may be null
};

// One set of loops. All pointers may be unaligned; nothing overlaps unless said.
struct HeadKernels {
  const char* name;
  bool native_bf16;  // products of bfloat16 pairs are one instruction

  // z[i][b] = factor[i] * sum_k a[i][k] panels[k][b]; k words. `a` has one pointer a row. `next`
  // [rows] are float32 rows that will be wanted soon: they are fetched on the way.
  void (*logits)(bool bf16, const float* const* a, const float* factor, std::int64_t rows,
                 const float* const* next, const float* panels, std::int64_t samples,
                 std::int64_t k, float* z);

  // dx[b][d] += sum_i g[i][b] w[i][d]; `k` words along i; g [k][samples] words, w one pointer a
  // word of k, dx [samples][columns] float32.
  void (*embedding_gradients)(bool bf16, const float* g, const float* const* w, std::int64_t k,
                              std::int64_t samples, std::int64_t columns, float* dx);

  // Row i's gradient sum_k g[i][k] panels[k][d] - radial[i] w[i][d] (g [rows][k] words; k = 0: no
  // product) is formed in registers and updates the row at once.
  void (*update_rows)(bool bf16, const float* g, std::int64_t rows, const float* panels,
                      std::int64_t k, std::int64_t columns, const TileRows& tile,
                      const RowUpdate& update);

  // Per sample over the tile's rows: the largest logit, and the sum of exp(logit - largest).
  void (*partial_softmax)(const float* z, std::int64_t rows, std::int64_t samples,
                          const NegativeRule& rule, float* largest, float* sum);

  // bound[i] = max over samples of logit - reference[sample].
  void (*row_bounds)(const float* z, std::int64_t rows, std::int64_t samples,
                     const NegativeRule& rule, const float* reference, float* bound);

  // mass[bin[i]][sample] += exp(logit - reference[sample]); mass [bins][samples].
  void (*add_mass)(const float* z, std::int64_t rows, std::int64_t samples,
                   const NegativeRule& rule, const float* reference, const std::int32_t* bin,
                   float* mass);

  // z -> g in place: d = share exp(logit - log_sum_exp[sample]) dlogit/dz; g = factor[i] d;
  // along[i] = sum over samples of d z; total[i] = sum of d; mass[sample] += exp(...).
  // log_sum_exp is +inf for the samples that only fill up.
  void (*softmax_gradients)(float* z, const float* factor, std::int64_t rows, std::int64_t samples,
                            const NegativeRule& rule, const float* log_sum_exp, float share,
                            float* along, float* total, float* mass);

  // Rounds to nearest even. pairs[j] = {a[j], b[j]} (b may be null: zeros); n words.
  void (*interleave_bf16)(const float* a, const float* b, std::int64_t n, float* pairs);
  // pairs[j] = {a[2j], a[2j + 1]}; n words.
  void (*narrow_bf16)(const float* a, std::int64_t n, float* pairs);
};

// The best for this processor. FR_HEAD_KERNELS=avx512_bf16|avx512|avx2|portable asks for another
// one (for tests and measurements); one that the processor cannot run throws
// Error(kInvalidArgument).
const HeadKernels& SelectHeadKernels();

// nullptr where the processor cannot run them.
const HeadKernels* FindHeadKernels(const char* name);

extern const HeadKernels kAvx512BF16HeadKernels;
extern const HeadKernels kAvx512HeadKernels;
extern const HeadKernels kAvx2HeadKernels;
extern const HeadKernels kPortableHeadKernels;

}  // namespace fr
