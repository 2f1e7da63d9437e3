#pragma once
// The loops of a convolutional backbone that only move memory, on a processor: normalisation with
// its activation, forward and backward, and depthwise convolution. Hand-written for AVX-512, AVX2
// and any other machine, from one source (backbone_kernels.inc). No LibTorch here.
//
// Activations are channels-last: [rows][channels], a row being one pixel of one image (image, then
// height, then width); an image alone is [height][width][channels]. They are float32, or, where
// `bf16` says so, bfloat16 (a void pointer is one of the two). A vector per channel is float32.
//
// Any number of channels from 1 is right; multiples of 64 are fastest.
//
// Precision. Values are computed in float32 and rounded once, to nearest even, where they are
// stored; NaN stays NaN. (The avx512_bf16 set takes numbers below 1.2e-38 for zero when it rounds.)
// Sums over rows are taken in float32 over at most kSumRows rows and added to float64.
//
// Threads. Nothing here starts any. Every function works on rows [begin, end) of what its pointers
// give the beginning of, so that several threads can share one description of the work. What is
// added to (sums, weight gradients) is one thread's own.
//
// Pointers need the alignment of one value, no more. Where an output is exactly one of the inputs,
// row-wise functions work in place; nothing else overlaps.

#include <cstdint>

namespace fr {

// Float32 sums become float64 after so many rows.
inline constexpr std::int64_t kSumRows = 64;

// The share of a batch in the running means and variances of batch norm, as in PyTorch.
inline constexpr double kNormMomentum = 0.1;

// act(v), and its derivative in brackets:
enum class Activation : std::uint8_t {
  kNone,   // v                      [1]
  kRelu,   // max(v, 0)              [v > 0]
  kRelu6,  // min(max(v, 0), 6)      [0 < v < 6]
  kPrelu,  // v > 0 ? v : slope v    [v > 0 ? 1 : slope]
};

// Sums over rows of x - shift and of (x - shift)^2, by channel; both [channels] are added to. A
// shift near the mean keeps the variance that follows from them exact.
struct MomentSums {
  double* sum = nullptr;
  double* squares = nullptr;
};

struct Moments {
  bool bf16 = false;
  std::int64_t channels = 0;
  const void* x = nullptr;
  const float* shift = nullptr;  // [channels]
};

// y = act(scale x + offset + residual).
struct NormForward {
  bool bf16 = false;
  Activation activation = Activation::kNone;
  std::int64_t channels = 0;
  const void* x = nullptr;
  const void* residual = nullptr;  // null: 0
  void* y = nullptr;
  const float* scale = nullptr;   // [channels]
  const float* offset = nullptr;  // [channels]
  const float* slope = nullptr;   // [channels]; kPrelu alone
  const float* shift = nullptr;   // [channels]; moments of y alone
};

// y = x + residual and z = scale y + offset, from y as it is stored: the sum that ends a residual
// block, and the normalisation that begins the next.
struct SumNorm {
  bool bf16 = false;
  std::int64_t channels = 0;
  const void* x = nullptr;
  const void* residual = nullptr;
  void* y = nullptr;
  void* z = nullptr;
  const float* scale = nullptr;   // [channels]
  const float* offset = nullptr;  // [channels]
};

// What backward sums by channel, with v = scale x + offset and g = dy act'(v); each [channels] is
// added to.
struct GradientSums {
  double* g = nullptr;         // g
  double* g_x = nullptr;       // g (x - mean)
  double* dy_slope = nullptr;  // dy v where not v > 0; kPrelu alone
};

// The backward of y = act(scale x + offset), in two passes. With scale 1, offset 0, a 1 and no b it
// is that of the activation alone, to the bit.
struct NormBackward {
  bool bf16 = false;
  Activation activation = Activation::kNone;
  std::int64_t channels = 0;
  const void* x = nullptr;
  const void* dy = nullptr;
  const float* scale = nullptr;   // [channels]; not read for kNone
  const float* offset = nullptr;  // [channels]; not read for kNone
  const float* slope = nullptr;   // [channels]; kPrelu alone

  const float* mean = nullptr;  // [channels]; the first pass alone

  // The second pass: dx = a g + b x + d + add.
  const float* a = nullptr;   // [channels]
  const float* b = nullptr;   // [channels]; null: b and d are 0
  const float* d = nullptr;   // [channels]
  const void* add = nullptr;  // another gradient of x; null: 0
  void* dx = nullptr;
};

// A convolution of every channel by itself, of a square kernel with padding of zeros on all sides.
// Weights are float32 [kernel * kernel][channels]. Paired: channels 2i and 2i + 1 see each other
// (groups of two); weights are [kernel * kernel][2][channels], that of the channel's own input and
// that of its neighbour's. Channels are then even in number.
//
// y[oy][ox][c] = sum over ky, kx of w[ky][kx][c] x[oy stride - padding + ky][..ox, kx..][c].
struct DepthwiseShape {
  bool bf16 = false;
  bool paired = false;
  std::int64_t channels = 0;
  std::int64_t height = 0;  // of x
  std::int64_t width = 0;
  std::int64_t kernel = 3;
  std::int64_t stride = 1;
  std::int64_t padding = 1;

  std::int64_t OutHeight() const { return (height + 2 * padding - kernel) / stride + 1; }
  std::int64_t OutWidth() const { return (width + 2 * padding - kernel) / stride + 1; }
};

// One set of loops. Rows [begin, end) are pixels, but where said.
struct BackboneKernels {
  const char* name;

  void (*moments)(const Moments& work, std::int64_t begin, std::int64_t end,
                  const MomentSums& sums);

  // With sums (not null) of y as it is stored, less `shift`: the next layer may be a batch norm.
  void (*norm_forward)(const NormForward& work, std::int64_t begin, std::int64_t end,
                       const MomentSums& sums);

  void (*sum_norm)(const SumNorm& work, std::int64_t begin, std::int64_t end);

  void (*norm_backward_sums)(const NormBackward& work, std::int64_t begin, std::int64_t end,
                             const GradientSums& sums);

  void (*norm_backward_input)(const NormBackward& work, std::int64_t begin, std::int64_t end);

  // x [images][height][width][channels] -> y; rows are those of y's images (image, then height).
  void (*depthwise_forward)(const DepthwiseShape& shape, const void* x, const float* weight,
                            void* y, std::int64_t begin, std::int64_t end);

  // dy -> dx; rows are those of dx's images.
  void (*depthwise_backward_input)(const DepthwiseShape& shape, const void* dy, const float* weight,
                                   void* dx, std::int64_t begin, std::int64_t end);

  // Added to `gradient`, which is like the weight; rows are those of dy's images.
  void (*depthwise_backward_weight)(const DepthwiseShape& shape, const void* x, const void* dy,
                                    float* gradient, std::int64_t begin, std::int64_t end);
};

// The best for this processor. FR_BACKBONE_KERNELS=avx512_bf16|avx512|avx2|portable asks for
// another one (for tests and measurements), when it is first looked at; one that the processor
// cannot run throws Error(kInvalidArgument).
const BackboneKernels& SelectBackboneKernels();

// nullptr where the processor cannot run them.
const BackboneKernels* FindBackboneKernels(const char* name);

extern const BackboneKernels kAvx512BF16BackboneKernels;
extern const BackboneKernels kAvx512BackboneKernels;
extern const BackboneKernels kAvx2BackboneKernels;
extern const BackboneKernels kPortableBackboneKernels;

}  // namespace fr
