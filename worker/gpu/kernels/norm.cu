// Normalisation with its activation, forward and backward, on channels-last rows.

#include "worker/gpu/kernels/channels.h"
#include "worker/gpu/kernels/kernels.h"
#include "worker/gpu/kernels/rows.h"

namespace fr::FR_GPU {
namespace {

constexpr int kThreads = 256;
// Rows that a thread of a pass from value to value has.
constexpr int kRowsEach = 4;

// A block has `columns` groups of channels and `lanes` rows at a time. Threads beyond these rest.
struct Place {
  std::int64_t channel;
  std::int64_t lane;
  std::int64_t lanes;
  bool there;
};

template <int kWidth>
FR_DEVICE Place PlaceOf(std::int64_t channels) {
  const std::int64_t columns = GpuNormColumns(channels);
  Place place;
  place.lanes = GpuNormLanes(channels);
  place.lane = simt::ThreadX() / columns;
  const std::int64_t group = simt::BlockY() * columns + simt::ThreadX() % columns;
  place.channel = group * kWidth;
  place.there = place.lane < place.lanes && place.channel < channels;
  return place;
}

simt::Grid NormGrid(std::int64_t parts, std::int64_t channels) {
  const std::int64_t groups = channels / GpuNormWidth(channels);
  return {parts, GpuBlocks(groups, GpuNormColumns(channels)), 1};
}

simt::Grid RowGrid(std::int64_t rows, std::int64_t channels) {
  return NormGrid(GpuBlocks(rows, kRowsEach * GpuNormLanes(channels)), channels);
}

struct Span {
  std::int64_t begin;
  std::int64_t end;
};
FR_DEVICE Span PartOf(std::int64_t rows) {
  const std::int64_t each = (rows + simt::BlocksX() - 1) / simt::BlocksX();
  const std::int64_t begin = simt::BlockX() * each;
  return {begin, begin + each < rows ? begin + each : rows};
}

// Sums of kKinds kinds over the block's lanes, into partial[part][kind][channel]. The lanes are
// added in order.
template <int kKinds, int kWidth>
FR_DEVICE void StorePartial(const Values<kWidth> (&sums)[kKinds], const Place& place,
                            std::int64_t channels, float* partial) {
  auto* shared = reinterpret_cast<float*>(simt::Shared());  // [kKinds][kThreads][kWidth]
  FR_UNROLL
  for (int kind = 0; kind < kKinds; ++kind) {
    FR_UNROLL
    for (int i = 0; i < kWidth; ++i) {
      shared[(kind * kWidth + i) * kThreads + simt::ThreadX()] = sums[kind].v[i];
    }
  }
  simt::SyncThreads();
  if (!place.there || place.lane != 0) return;
  const auto columns = static_cast<int>(GpuNormColumns(channels));
  FR_UNROLL
  for (int kind = 0; kind < kKinds; ++kind) {
    FR_UNROLL
    for (int i = 0; i < kWidth; ++i) {
      const float* own = shared + (kind * kWidth + i) * kThreads + simt::ThreadX();
      float sum = 0;
      for (int lane = 0; lane < place.lanes; ++lane) sum += own[lane * columns];
      partial[(simt::BlockX() * kKinds + kind) * channels + place.channel + i] = sum;
    }
  }
}
template <int kKinds, int kWidth>
constexpr int PartialShared() {
  return kKinds * kWidth * kThreads * 4;
}

template <bool kBf16, int kWidth>
FR_KERNEL(kThreads, 2)
MomentsKernel(const GpuMoments work) {
  const Place place = PlaceOf<kWidth>(work.channels);
  Values<kWidth> sums[2] = {};
  if (place.there && work.rows > 0) {
    const Values<kWidth> shift = Load<kBf16, kWidth>(work.x, place.channel);
    if (simt::BlockX() == 0 && place.lane == 0) {
      FR_UNROLL
      for (int i = 0; i < kWidth; ++i) work.shift[place.channel + i] = shift.v[i];
    }
    const Span span = PartOf(work.rows);
    for (std::int64_t row = span.begin + place.lane; row < span.end; row += place.lanes) {
      const Values<kWidth> x = Load<kBf16, kWidth>(work.x, row * work.channels + place.channel);
      FR_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        const float from = x.v[i] - shift.v[i];
        sums[0].v[i] += from;
        sums[1].v[i] += from * from;
      }
    }
  } else if (place.there && simt::BlockX() == 0 && place.lane == 0) {
    FR_UNROLL
    for (int i = 0; i < kWidth; ++i) work.shift[place.channel + i] = 0;
  }
  StorePartial<2, kWidth>(sums, place, work.channels, work.partial);
}

// Adds parts up: a block for 32 channels, whose 32 warps share the parts.
constexpr int kReduceWarps = 32;
constexpr int kReduceThreads = 32 * kReduceWarps;

template <int kKinds>
FR_DEVICE void SumUp(const float* partial, std::int64_t parts, std::int64_t channels,
                     double (&sums)[kKinds]) {
  auto* shared = reinterpret_cast<double*>(simt::Shared());  // [kKinds][kReduceThreads]
  const std::int64_t channel = simt::BlockX() * 32 + simt::ThreadX() % 32;
  const int warp = simt::ThreadX() / 32;
  for (int kind = 0; kind < kKinds; ++kind) {
    double sum = 0;
    for (std::int64_t part = warp; channel < channels && part < parts; part += kReduceWarps) {
      sum += static_cast<double>(partial[(part * kKinds + kind) * channels + channel]);
    }
    shared[kind * kReduceThreads + simt::ThreadX()] = sum;
  }
  simt::SyncThreads();
  for (int kind = 0; kind < kKinds; ++kind) {
    sums[kind] = 0;
    if (warp > 0) continue;
    for (int other = 0; other < kReduceWarps; ++other) {
      sums[kind] += shared[kind * kReduceThreads + 32 * other + simt::ThreadX()];
    }
  }
}
template <int kKinds>
constexpr int ReduceShared() {
  return kKinds * kReduceThreads * static_cast<int>(sizeof(double));
}

// Mean and variance of channel c, and all that follows.
FR_DEVICE void Finish(const GpuNormStatistics& work, std::int64_t c, double first, double second) {
  const double rows = work.count == nullptr ? work.own_count : *work.count;
  const double count = fmax(rows, 1.0);
  double mean = first / count;
  double variance = second / count;
  if (work.shift != nullptr) {
    variance = (second - first * mean) / count;
    mean += static_cast<double>(work.shift[c]);
  }
  variance = variance > 0 || variance != variance ? variance : 0.0;
  const double inverse_std = 1 / sqrt(variance + work.epsilon);
  const double scale = static_cast<double>(work.weight[c]) * inverse_std;
  work.out.mean[c] = static_cast<float>(mean);
  work.out.inverse_std[c] = static_cast<float>(inverse_std);
  work.out.scale[c] = static_cast<float>(scale);
  work.out.offset[c] = static_cast<float>(static_cast<double>(work.bias[c]) - mean * scale);
  // A rank may have no images, where its statistics are its own.
  if (work.running_mean == nullptr || rows == 0) return;
  if (c == 0) *work.batches += 1;
  const double unbiased = variance * rows / fmax(rows - 1, 1.0);
  // One batch that is not finite, as float32 has it, would stay in the means for ever.
  if (!(static_cast<double>(static_cast<float>(unbiased)) < simt::Infinity())) return;
  const auto moved = [](float* running, double value) {
    *running += static_cast<float>(kNormMomentum * (value - static_cast<double>(*running)));
  };
  moved(work.running_mean + c, mean);
  moved(work.running_variance + c, unbiased);
}

struct MomentsSumWork {
  GpuMoments moments;
  std::int64_t parts;
  bool finishes;
  GpuNormStatistics then;
};

FR_KERNEL(kReduceThreads, 1) MomentsSumKernel(const MomentsSumWork work) {
  double sums[2];
  const std::int64_t channels = work.moments.channels;
  SumUp<2>(work.moments.partial, work.parts, channels, sums);
  const std::int64_t channel = simt::BlockX() * 32 + simt::ThreadX();
  if (simt::ThreadX() >= 32 || channel >= channels) return;
  work.moments.sums[channel] = sums[0];
  work.moments.sums[channels + channel] = sums[1];
  if (work.finishes) Finish(work.then, channel, sums[0], sums[1]);
}

FR_KERNEL(kThreads, 4) StatisticsKernel(const GpuNormStatistics work) {
  const std::int64_t c = simt::BlockX() * kThreads + simt::ThreadX();
  if (c < work.channels) Finish(work, c, work.sums[c], work.sums[work.channels + c]);
}

FR_DEVICE float Activate(Activation activation, float v, float slope) {
  switch (activation) {
    case Activation::kNone:
      return v;
    case Activation::kRelu:
      return v > 0 || v != v ? v : 0.0F;
    case Activation::kRelu6:
      return v != v ? v : fminf(fmaxf(v, 0.0F), 6.0F);
    case Activation::kPrelu:
      return v > 0 ? v : slope * v;
  }
  return v;
}

FR_DEVICE float Derivative(Activation activation, float v, float slope) {
  switch (activation) {
    case Activation::kNone:
      return 1;
    case Activation::kRelu:
      return v > 0 ? 1.0F : 0.0F;
    case Activation::kRelu6:
      return v > 0 && v < 6 ? 1.0F : 0.0F;
    case Activation::kPrelu:
      return v > 0 ? 1.0F : slope;
  }
  return 1;
}

// call(where in memory the thread's channels of a row are), for the rows that it has in a pass from
// value to value.
template <class Call>
FR_DEVICE void ForEachOwnRow(const Place& place, std::int64_t rows, std::int64_t channels,
                             const Call& call) {
  FR_UNROLL
  for (int turn = 0; turn < kRowsEach; ++turn) {
    const std::int64_t row = (simt::BlockX() * kRowsEach + turn) * place.lanes + place.lane;
    if (row >= rows) return;
    call(row * channels + place.channel);
  }
}

// What activates, by channel.
template <int kWidth>
struct Affines {
  Values<kWidth> scale;
  Values<kWidth> offset;
  Values<kWidth> slope;
};
template <int kWidth, class Norm>
FR_DEVICE Affines<kWidth> AffinesOf(const Norm& norm, std::int64_t channel) {
  return {LoadVector<kWidth>(norm.scale, channel, 1), LoadVector<kWidth>(norm.offset, channel, 0),
          LoadVector<kWidth>(norm.slope, channel, 0)};
}

struct ForwardWork {
  NormForward norm;
  std::int64_t rows;
};

template <bool kBf16, int kWidth>
FR_KERNEL(kThreads, 4)
ForwardKernel(const ForwardWork work) {
  const NormForward& norm = work.norm;
  const Place place = PlaceOf<kWidth>(norm.channels);
  if (!place.there) return;
  const auto [scale, offset, slope] = AffinesOf<kWidth>(norm, place.channel);
  ForEachOwnRow(place, work.rows, norm.channels, [&](std::int64_t at) {
    const Values<kWidth> x = Load<kBf16, kWidth>(norm.x, at);
    Values<kWidth> y = {};
    if (norm.residual != nullptr) y = Load<kBf16, kWidth>(norm.residual, at);
    FR_UNROLL
    for (int i = 0; i < kWidth; ++i) {
      const float v = scale.v[i] * x.v[i] + offset.v[i];
      y.v[i] = Activate(norm.activation, v + y.v[i], slope.v[i]);
    }
    Store<kBf16, kWidth>(norm.y, at, y);
  });
}

struct SumNormWork {
  SumNorm norm;
  std::int64_t rows;
};

template <bool kBf16, int kWidth>
FR_KERNEL(kThreads, 4)
SumNormKernel(const SumNormWork work) {
  const SumNorm& norm = work.norm;
  const Place place = PlaceOf<kWidth>(norm.channels);
  if (!place.there) return;
  const Values<kWidth> scale = LoadVector<kWidth>(norm.scale, place.channel, 1);
  const Values<kWidth> offset = LoadVector<kWidth>(norm.offset, place.channel, 0);
  ForEachOwnRow(place, work.rows, norm.channels, [&](std::int64_t at) {
    Values<kWidth> y = Load<kBf16, kWidth>(norm.x, at);
    const Values<kWidth> residual = Load<kBf16, kWidth>(norm.residual, at);
    Values<kWidth> z;
    FR_UNROLL
    for (int i = 0; i < kWidth; ++i) {
      y.v[i] = AsStored<kBf16>(y.v[i] + residual.v[i]);
      z.v[i] = scale.v[i] * y.v[i] + offset.v[i];
    }
    Store<kBf16, kWidth>(norm.y, at, y);
    Store<kBf16, kWidth>(norm.z, at, z);
  });
}

template <bool kBf16, int kWidth>
FR_KERNEL(kThreads, 2)
BackwardSumsKernel(const GpuNormBackwardSums work) {
  const NormBackward& norm = work.work;
  const Place place = PlaceOf<kWidth>(norm.channels);
  Values<kWidth> sums[3] = {};
  if (place.there) {
    const auto [scale, offset, slope] = AffinesOf<kWidth>(norm, place.channel);
    const Values<kWidth> mean = LoadVector<kWidth>(norm.mean, place.channel, 0);
    const Span span = PartOf(work.rows);
    for (std::int64_t row = span.begin + place.lane; row < span.end; row += place.lanes) {
      const std::int64_t at = row * norm.channels + place.channel;
      const Values<kWidth> x = Load<kBf16, kWidth>(norm.x, at);
      const Values<kWidth> dy = Load<kBf16, kWidth>(norm.dy, at);
      FR_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        const float v = scale.v[i] * x.v[i] + offset.v[i];
        const float g = dy.v[i] * Derivative(norm.activation, v, slope.v[i]);
        sums[0].v[i] += g;
        sums[1].v[i] += g * (x.v[i] - mean.v[i]);
        if (norm.activation == Activation::kPrelu && !(v > 0)) sums[2].v[i] += dy.v[i] * v;
      }
    }
  }
  StorePartial<3, kWidth>(sums, place, norm.channels, work.partial);
}

FR_DEVICE void Finish(const GpuNormGradients& work, std::int64_t c, double g, double g_x,
                      double dy_slope, double all_g, double all_g_x) {
  const auto inverse_std = static_cast<double>(work.inverse_std[c]);
  if (work.weight_gradient != nullptr) {
    work.weight_gradient[c] += static_cast<float>(g_x * inverse_std);
  }
  if (work.bias_gradient != nullptr) work.bias_gradient[c] += static_cast<float>(g);
  if (work.slope_gradient != nullptr) work.slope_gradient[c] += static_cast<float>(dy_slope);
  const double count = fmax(work.count == nullptr ? work.own_count : *work.count, 1.0);
  const double scale = static_cast<double>(work.weight[c]) * inverse_std;
  const double slope = scale * inverse_std * inverse_std * all_g_x / count;
  work.a[c] = static_cast<float>(scale);
  work.b[c] = static_cast<float>(-slope);
  work.d[c] = static_cast<float>(slope * static_cast<double>(work.mean[c]) - scale * all_g / count);
}

struct BackwardSumWork {
  GpuNormBackwardSums sums;
  std::int64_t parts;
  bool finishes;
  GpuNormGradients then;
};

FR_KERNEL(kReduceThreads, 1) BackwardSumKernel(const BackwardSumWork work) {
  double sums[3];
  const std::int64_t channels = work.sums.work.channels;
  SumUp<3>(work.sums.partial, work.parts, channels, sums);
  const std::int64_t channel = simt::BlockX() * 32 + simt::ThreadX();
  if (simt::ThreadX() >= 32 || channel >= channels) return;
  for (int kind = 0; kind < 3; ++kind) work.sums.sums[kind * channels + channel] = sums[kind];
  if (work.finishes) Finish(work.then, channel, sums[0], sums[1], sums[2], sums[0], sums[1]);
}

FR_KERNEL(kThreads, 4) GradientsKernel(const GpuNormGradients work) {
  const std::int64_t c = simt::BlockX() * kThreads + simt::ThreadX();
  if (c >= work.channels) return;
  const double* all = work.all == nullptr ? work.own : work.all;
  Finish(work, c, work.own[c], work.own[work.channels + c], work.own[2 * work.channels + c], all[c],
         all[work.channels + c]);
}

struct BackwardInputWork {
  NormBackward norm;
  std::int64_t rows;
};

template <bool kBf16, int kWidth>
FR_KERNEL(kThreads, 2)
BackwardInputKernel(const BackwardInputWork work) {
  const NormBackward& norm = work.norm;
  const Place place = PlaceOf<kWidth>(norm.channels);
  if (!place.there) return;
  const auto [scale, offset, slope] = AffinesOf<kWidth>(norm, place.channel);
  const Values<kWidth> a = LoadVector<kWidth>(norm.a, place.channel, 1);
  const Values<kWidth> b = LoadVector<kWidth>(norm.b, place.channel, 0);
  const Values<kWidth> d =
      LoadVector<kWidth>(norm.b == nullptr ? nullptr : norm.d, place.channel, 0);
  ForEachOwnRow(place, work.rows, norm.channels, [&](std::int64_t at) {
    const Values<kWidth> x = Load<kBf16, kWidth>(norm.x, at);
    const Values<kWidth> dy = Load<kBf16, kWidth>(norm.dy, at);
    Values<kWidth> dx = {};
    if (norm.add != nullptr) dx = Load<kBf16, kWidth>(norm.add, at);
    FR_UNROLL
    for (int i = 0; i < kWidth; ++i) {
      const float v = scale.v[i] * x.v[i] + offset.v[i];
      const float g = dy.v[i] * Derivative(norm.activation, v, slope.v[i]);
      dx.v[i] += a.v[i] * g + b.v[i] * x.v[i] + d.v[i];
    }
    Store<kBf16, kWidth>(norm.dx, at, dx);
  });
}

// The kernel for the values' type and the number of channels.
template <class Work>
using Kernel = void (*)(Work);
template <class Work>
Kernel<Work> Choose(bool bf16, std::int64_t channels, Kernel<Work> bf16_wide,
                    Kernel<Work> bf16_narrow, Kernel<Work> float_wide, Kernel<Work> float_narrow) {
  const bool wide = GpuNormWidth(channels) == 8;
  if (bf16) return wide ? bf16_wide : bf16_narrow;
  return wide ? float_wide : float_narrow;
}
#define FR_CHOOSE(Work, kernel, bf16, channels) \
  Choose<Work>(bf16, channels, kernel<true, 8>, kernel<true, 1>, kernel<false, 8>, kernel<false, 1>)

}  // namespace

void MomentsOf(const GpuMoments& work, const GpuNormStatistics* then, GpuStream stream) {
  const std::int64_t parts = GpuNormParts(work.rows, work.channels);
  simt::Launch("moments", FR_CHOOSE(GpuMoments, MomentsKernel, work.bf16, work.channels), work,
               NormGrid(parts, work.channels), kThreads, PartialShared<2, 8>(), stream);
  MomentsSumWork sum{work, parts, then != nullptr, {}};
  if (then != nullptr) {
    sum.then = *then;
    sum.then.shift = work.shift;
  }
  simt::Launch("moments_sum", MomentsSumKernel, sum, {GpuBlocks(work.channels, 32), 1, 1},
               kReduceThreads, ReduceShared<2>(), stream);
}

void NormStatistics(const GpuNormStatistics& work, GpuStream stream) {
  simt::Launch("norm_statistics", StatisticsKernel, work,
               {GpuBlocks(work.channels, kThreads), 1, 1}, kThreads, 0, stream);
}

void ForwardNorm(const NormForward& work, std::int64_t rows, GpuStream stream) {
  simt::Launch("norm_forward", FR_CHOOSE(ForwardWork, ForwardKernel, work.bf16, work.channels),
               ForwardWork{work, rows}, RowGrid(rows, work.channels), kThreads, 0, stream);
}

void ForwardSumNorm(const SumNorm& work, std::int64_t rows, GpuStream stream) {
  simt::Launch("sum_norm", FR_CHOOSE(SumNormWork, SumNormKernel, work.bf16, work.channels),
               SumNormWork{work, rows}, RowGrid(rows, work.channels), kThreads, 0, stream);
}

void NormBackwardSums(const GpuNormBackwardSums& work, const GpuNormGradients* then,
                      GpuStream stream) {
  const NormBackward& norm = work.work;
  const std::int64_t parts = GpuNormParts(work.rows, norm.channels);
  simt::Launch("norm_backward_sums",
               FR_CHOOSE(GpuNormBackwardSums, BackwardSumsKernel, norm.bf16, norm.channels), work,
               NormGrid(parts, norm.channels), kThreads, PartialShared<3, 8>(), stream);
  BackwardSumWork sum{work, parts, then != nullptr, {}};
  if (then != nullptr) sum.then = *then;
  simt::Launch("norm_backward_sum", BackwardSumKernel, sum, {GpuBlocks(norm.channels, 32), 1, 1},
               kReduceThreads, ReduceShared<3>(), stream);
}

void NormGradients(const GpuNormGradients& work, GpuStream stream) {
  simt::Launch("norm_gradients", GradientsKernel, work, {GpuBlocks(work.channels, kThreads), 1, 1},
               kThreads, 0, stream);
}

void NormBackwardInput(const NormBackward& work, std::int64_t rows, GpuStream stream) {
  simt::Launch("norm_backward_input",
               FR_CHOOSE(BackwardInputWork, BackwardInputKernel, work.bf16, work.channels),
               BackwardInputWork{work, rows}, RowGrid(rows, work.channels), kThreads, 0, stream);
}

}  // namespace fr::FR_GPU
