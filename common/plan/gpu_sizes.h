#pragma once
// Sizes of what the engine's GPU kernels work with. The engine makes its tensors by them
// (worker/heads/gpu_head_shard.cpp, worker/backbones/run/gpu_norm_step.cpp), the planner counts
// them (gpu_memory.h). No LibTorch and no CUDA here.

#include <algorithm>
#include <cstdint>

namespace fr {

// What embedding size and global batch are rounded up to, with zeros, for the head's products.
inline constexpr std::int64_t kGpuStep = 32;
// Rows and columns of a product that one block computes.
inline constexpr std::int64_t kGpuBlock = 128;
// Of a tile's operands by default: what stays in the second-level cache between two kernels.
inline constexpr std::int64_t kGpuHeadTileBytes = std::int64_t{32} << 20;

inline constexpr std::int64_t GpuBlocks(std::int64_t rows, std::int64_t block_rows) {
  return (rows + block_rows - 1) / block_rows;
}
// `size` rounded up to whole steps.
inline constexpr std::int64_t GpuRounded(std::int64_t size, std::int64_t step = kGpuStep) {
  return GpuBlocks(size, step) * step;
}
// Rows that one block has: whole identities.
inline constexpr std::int64_t GpuBlockRows(int sub_centers) {
  return kGpuBlock / sub_centers * sub_centers;
}

// Of a shard of the head on a GPU, for one size of the global batch.
struct GpuHeadSizes {
  std::int64_t columns = 0;    // embedding size, rounded up
  std::int64_t samples = 0;    // global batch, rounded up
  std::int64_t planes = 0;     // bfloat16 parts of an operand: 1, or 3 for float32
  std::int64_t tile_rows = 0;  // rows that are worked on at a time
  std::int64_t sample_blocks = 0;
  std::int64_t row_blocks = 0;  // of a tile

  // Parts in which a tile's rows are summed into the embeddings' gradients: enough to keep every
  // multiprocessor at work.
  int Splits(int multiprocessors) const {
    const std::int64_t blocks = sample_blocks * GpuBlocks(columns, kGpuBlock);
    return static_cast<int>(std::clamp<std::int64_t>(std::int64_t{2} * multiprocessors / blocks, 1,
                                                     tile_rows / kGpuStep));
  }
};

// `num_rows`: of the shard, identities times sub-centers. Tiles are whole blocks of whole
// identities; both operands of a tile and its coefficients are within `tile_bytes` (0: the
// default), but a tile has one block at least.
inline GpuHeadSizes GpuHeadSizesOf(std::int64_t num_rows, std::int64_t embedding_size,
                                   std::int64_t global_batch, int sub_centers, bool bf16_products,
                                   std::int64_t tile_bytes = 0) {
  GpuHeadSizes sizes;
  sizes.columns = GpuRounded(embedding_size);
  sizes.samples = GpuRounded(std::max<std::int64_t>(global_batch, 1));
  sizes.planes = bf16_products ? 1 : 3;
  const std::int64_t bytes = tile_bytes > 0 ? tile_bytes : kGpuHeadTileBytes;
  const std::int64_t block = GpuBlockRows(sub_centers);
  const std::int64_t rows = bytes / ((sizes.columns + sizes.samples) * 2 * sizes.planes);
  const std::int64_t all = GpuRounded(num_rows, block);
  sizes.tile_rows = std::clamp(rows / block * block, block, std::max(block, all));
  sizes.sample_blocks = GpuBlocks(sizes.samples, kGpuBlock);
  sizes.row_blocks = GpuBlocks(sizes.tile_rows, block);
  return sizes;
}

// Channels that a thread of a normalisation has, and channels and rows that a block of 256 has.
inline constexpr std::int64_t GpuNormWidth(std::int64_t channels) {
  return channels % 8 == 0 ? 8 : 1;
}
inline constexpr std::int64_t GpuNormColumns(std::int64_t channels) {
  const std::int64_t groups = channels / GpuNormWidth(channels);
  return groups < 32 ? groups : 32;
}
inline constexpr std::int64_t GpuNormLanes(std::int64_t channels) {
  return 256 / GpuNormColumns(channels);
}
// Parts into which rows are cut for sums by channel: enough for every multiprocessor, few enough to
// be summed up in no time.
inline constexpr std::int64_t GpuNormParts(std::int64_t rows, std::int64_t channels) {
  const std::int64_t parts = rows / (4 * GpuNormLanes(channels));
  return parts < 1 ? 1 : parts < 1024 ? parts : 1024;
}
// Vectors by channel that a normalisation keeps, float32: mean, inverse deviation, scale, offset,
// shift, and three of the backward pass; and sums, float64.
inline constexpr std::int64_t kGpuNormVectors = 8;
inline constexpr std::int64_t kGpuNormSums = 3;

}  // namespace fr
