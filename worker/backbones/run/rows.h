#pragma once
// Channels-last tensors as rows of channels, shared out among threads.

#include <algorithm>
#include <cstdint>
#include <vector>

#include <ATen/Parallel.h>
#include <torch/torch.h>

namespace fr {

// A row is worth a thread's start only with many others.
constexpr std::int64_t kGrainElements = 32 * 1024;

inline std::int64_t GrainRows(std::int64_t elements_per_row) {
  return std::max<std::int64_t>(1, kGrainElements / std::max<std::int64_t>(1, elements_per_row));
}

// [n, c, h, w] in channels-last order, or [n, c] contiguous.
inline at::Tensor AsRows(const at::Tensor& x) {
  return x.dim() == 4 ? x.contiguous(torch::MemoryFormat::ChannelsLast) : x.contiguous();
}

// Sums over rows, by several threads: `add(begin, end, sums)` adds rows [begin, end) to `sums`
// [size]. The order is the same every time.
template <typename Add>
std::vector<double> SumOverRows(std::int64_t rows, std::int64_t grain, std::int64_t size,
                                const Add& add) {
  const std::int64_t threads = at::get_num_threads();
  std::vector<double> partial(static_cast<std::size_t>(threads * size), 0.0);
  at::parallel_for(0, rows, grain, [&](std::int64_t begin, std::int64_t end) {
    add(begin, end, partial.data() + at::get_thread_num() * size);
  });
  for (std::int64_t thread = 1; thread < threads; ++thread) {
    for (std::int64_t i = 0; i < size; ++i) partial[i] += partial[thread * size + i];
  }
  partial.resize(static_cast<std::size_t>(size));
  return partial;
}

}  // namespace fr
