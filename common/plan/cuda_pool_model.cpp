#include "common/plan/cuda_pool_model.h"

#include <iterator>

#include "common/plan/gpu_sizes.h"

namespace fr {
namespace {

// As LibTorch 2 names them: kMinBlockSize, kSmallSize, kSmallBuffer, kMinLargeAlloc, kLargeBuffer,
// kRoundLarge.
constexpr std::int64_t kMiB = 1 << 20;
constexpr std::int64_t kBlock = 512;
constexpr std::int64_t kLargestSmall = kMiB;
constexpr std::int64_t kSmallSegment = 2 * kMiB;
constexpr std::int64_t kLeastOwnSegment = 10 * kMiB;
constexpr std::int64_t kSharedSegment = 20 * kMiB;
constexpr std::int64_t kSegmentStep = 2 * kMiB;
constexpr std::int64_t kNowhere = -1;

std::int64_t SegmentBytes(std::int64_t size) {
  if (size <= kLargestSmall) return kSmallSegment;
  return size < kLeastOwnSegment ? kSharedSegment : GpuRounded(size, kSegmentStep);
}

}  // namespace

std::int64_t CudaTensorBytes(std::int64_t bytes) {
  return GpuRounded(bytes, bytes < kLeastOwnSegment ? kBlock : kSegmentStep);
}

std::int64_t CudaPoolModel::Allocate(std::int64_t bytes) {
  if (bytes == 0) return kNowhere;
  const std::int64_t size = GpuRounded(bytes, kBlock);
  const bool small = size <= kLargestSmall;
  auto block = FindFree(size, small);
  if (block == blocks_.end()) block = NewSegment(size, small);
  SetFree(block, false);
  const std::int64_t left = block->second.size - size;
  if (small ? left >= kBlock : left > kLargestSmall) {
    block->second.size = size;
    const Block rest{left, block->second.segment, small, false};
    SetFree(blocks_.emplace(block->first + size, rest).first, true);
  }
  return block->first;
}

void CudaPoolModel::Free(std::int64_t /*bytes*/, std::int64_t place) {
  if (place == kNowhere) return;
  auto block = blocks_.find(place);
  const auto joins = [&](Blocks::iterator other) {
    return other->second.free && other->second.segment == block->second.segment;
  };
  if (const auto next = std::next(block); next != blocks_.end() && joins(next)) {
    SetFree(next, false);
    block->second.size += next->second.size;
    blocks_.erase(next);
  }
  if (block != blocks_.begin() && joins(std::prev(block))) {
    const auto before = std::prev(block);
    SetFree(before, false);
    before->second.size += block->second.size;
    blocks_.erase(block);
    block = before;
  }
  SetFree(block, true);
}

CudaPoolModel::Blocks::iterator CudaPoolModel::FindFree(std::int64_t size, bool small) {
  const auto& known = free_[small ? 1 : 0];
  const auto found = known.lower_bound({size, 0});
  return found == known.end() ? blocks_.end() : blocks_.find(found->second);
}

CudaPoolModel::Blocks::iterator CudaPoolModel::NewSegment(std::int64_t size, bool small) {
  const std::int64_t bytes = SegmentBytes(size);
  const std::int64_t address = next_address_;
  next_address_ += bytes;
  taken_ += bytes;
  const auto block = blocks_.emplace(address, Block{bytes, address, small, false}).first;
  SetFree(block, true);
  return block;
}

void CudaPoolModel::SetFree(Blocks::iterator block, bool free) {
  block->second.free = free;
  auto& known = free_[block->second.small ? 1 : 0];
  const std::pair<std::int64_t, std::int64_t> entry = {block->second.size, block->first};
  if (free) {
    known.insert(entry);
  } else {
    known.erase(entry);
  }
}

}  // namespace fr
