#pragma once
// The shard on a GPU: two passes over tiles of rows, by the kernels of gpu_kernels.h.

#include <memory>

#include "worker/gpu/gpu.h"
#include "worker/heads/head_shard.h"

namespace fr {

// Rows begin as MakeCpuHeadShard's, to the bit. Products run on tensor cores: with bf16_products on
// rounded operands, otherwise on operands of three bfloat16 parts each, which is float32 to its
// last bits. Beside the rows and their state it needs HeadShardOptions::tile_bytes and, for each
// sample of the global batch, some times its embedding. x is on `gpu`, and so is what it gives back
// but for vectors of one number a sample, which are on the processor. `gpu` outlives it.
std::unique_ptr<HeadShard> MakeGpuHeadShard(const HeadShardOptions& options, IdentityRange range,
                                            Gpu& gpu);

}  // namespace fr
