#include "common/plan/heap_model.h"

#include <iterator>

namespace fr {
namespace {

constexpr std::int64_t kLargestThreshold = 32LL * 1024 * 1024;
constexpr std::int64_t kAlignment = 64;  // of LibTorch's tensors
constexpr std::int64_t kOverhead = 64;   // of a block in the heap: its head, and what aligns it
constexpr std::int64_t kPage = 4096;

std::int64_t RoundUp(std::int64_t value, std::int64_t step) {
  return (value + step - 1) / step * step;
}

std::int64_t InHeap(std::int64_t bytes) { return RoundUp(bytes, kAlignment) + kOverhead; }

}  // namespace

std::int64_t HeapModel::Allocate(std::int64_t bytes) {
  std::int64_t place = -1;
  const std::int64_t size = InHeap(bytes);
  const auto gap = by_size_.lower_bound({size, 0});
  if (gap != by_size_.end()) {
    const auto [gap_size, begin] = *gap;
    RemoveGap(gaps_.find(begin));
    if (gap_size > size) AddGap(begin + size, gap_size - size);
    place = begin;
  } else if (bytes >= threshold_) {
    mapped_ += RoundUp(bytes, kPage);
  } else {
    // What is free at the end grows to the size wanted.
    place = end_;
    if (!gaps_.empty()) {
      const auto last = std::prev(gaps_.end());
      if (last->first + last->second == end_) {
        place = last->first;
        RemoveGap(last);
      }
    }
    end_ = place + size;
  }
  return place;
}

void HeapModel::Free(std::int64_t bytes, std::int64_t place) {
  if (place < 0) {
    mapped_ -= RoundUp(bytes, kPage);
    if (bytes > threshold_ && bytes <= kLargestThreshold) threshold_ = bytes;
    return;
  }
  std::int64_t begin = place;
  std::int64_t size = InHeap(bytes);
  const auto next = gaps_.lower_bound(begin);
  if (next != gaps_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == begin) {
      begin = before->first;
      size += before->second;
      RemoveGap(before);
    }
  }
  if (begin + size == end_ && size >= 2 * threshold_) {
    end_ = begin;
  } else {
    AddGap(begin, size);
  }
}

void HeapModel::AddGap(std::int64_t begin, std::int64_t size) {
  gaps_[begin] = size;
  by_size_.insert({size, begin});
}

void HeapModel::RemoveGap(std::map<std::int64_t, std::int64_t>::iterator gap) {
  by_size_.erase({gap->second, gap->first});
  gaps_.erase(gap);
}

}  // namespace fr
