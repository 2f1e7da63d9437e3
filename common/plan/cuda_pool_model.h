#pragma once
// How much of a GPU stays taken when tensors are made and dropped one after the other: a model of
// LibTorch's CUDA allocator (c10/cuda/CUDACachingAllocator.cpp), without any memory.
//
// It takes segments from the device and cuts them into blocks of multiples of 512 bytes. Tensors of
// up to 1 MiB lie in segments of 2 MiB, those below 10 MiB in segments of 20 MiB, larger ones in a
// segment of their own size, rounded up to 2 MiB. A new tensor gets the smallest free block that is
// large enough, of any segment of its kind; what is left of it becomes a free block, but of large
// ones only when that is more than 1 MiB. Free neighbours join. Segments are never given back: what
// is taken at the end is GpuMemory.peak_held_bytes.
//
// One stream's tensors: the real one keeps the blocks of each stream apart.

#include <cstdint>
#include <map>
#include <set>
#include <utility>

#include "common/plan/memory_model.h"

namespace fr {

class CudaPoolModel final : public MemoryModel {
 public:
  std::int64_t resident() const override { return taken_; }

 private:
  struct Block {
    std::int64_t size = 0;
    std::int64_t segment = 0;  // the address where it begins
    bool small = false;
    bool free = false;
  };
  using Blocks = std::map<std::int64_t, Block>;  // by address

  std::int64_t Allocate(std::int64_t bytes) override;
  void Free(std::int64_t bytes, std::int64_t place) override;
  Blocks::iterator FindFree(std::int64_t size, bool small);
  Blocks::iterator NewSegment(std::int64_t size, bool small);
  void SetFree(Blocks::iterator block, bool free);

  std::int64_t taken_ = 0;
  std::int64_t next_address_ = 0;
  Blocks blocks_;
  // {size, address} of what is free: large, small.
  std::set<std::pair<std::int64_t, std::int64_t>> free_[2];
};

// Bytes that one tensor takes which is made once and stays: what CudaPoolModel rounds it up to,
// with what may be left of a segment counted as another's.
std::int64_t CudaTensorBytes(std::int64_t bytes);

}  // namespace fr
