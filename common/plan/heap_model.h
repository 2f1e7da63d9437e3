#pragma once
// How much memory stays resident when tensors are made and dropped one after the other: a model of
// glibc's malloc, without any memory.
//
// Blocks at or above a threshold are mapped by themselves and go back to the system when they are
// freed; each such free lifts the threshold to the block's size, up to 32 MiB. Smaller ones lie in
// the heap, the smallest gap that fits first, and what is freed there stays resident, except at the
// heap's end once twice the threshold is free there (mallopt(3): M_MMAP_THRESHOLD,
// M_TRIM_THRESHOLD). With a training step's many sizes, gaps are a good part of memory: half of
// MobileFaceNet's with `recompute`.
//
// A freed block joins the gap before it, not the one behind it. glibc joins both, but each aligned
// block leaves a scrap beside it that its caches of small blocks hold back. Joining always gives
// half of the gaps that workers were measured to have, joining never up to twice as many
// (docs/planning.md has how near this comes).

#include <cstdint>
#include <map>
#include <set>
#include <utility>

#include "common/plan/memory_model.h"

namespace fr {

class HeapModel final : public MemoryModel {
 public:
  std::int64_t resident() const override { return mapped_ + end_; }

 private:
  // Places are in the heap; -1: mapped by itself.
  std::int64_t Allocate(std::int64_t bytes) override;
  void Free(std::int64_t bytes, std::int64_t place) override;
  void AddGap(std::int64_t begin, std::int64_t size);
  void RemoveGap(std::map<std::int64_t, std::int64_t>::iterator gap);

  std::int64_t mapped_ = 0;
  std::int64_t end_ = 0;  // of the heap
  std::int64_t threshold_ = std::int64_t{128} * 1024;
  std::map<std::int64_t, std::int64_t> gaps_;                // begin -> size
  std::set<std::pair<std::int64_t, std::int64_t>> by_size_;  // {size, begin} of the same
};

}  // namespace fr
