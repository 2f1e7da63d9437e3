#include "worker/comm/gradient_reducer.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "common/base/error.h"

namespace fr {

GradientReducer::GradientReducer(at::Tensor gradients, Communicator& comm,
                                 const GradientReducerOptions& options)
    : gradients_(std::move(gradients)), comm_(comm), wire_(options.wire) {
  if (gradients_.dim() != 1 || gradients_.scalar_type() != at::kFloat ||
      !gradients_.is_contiguous() || options.bucket_bytes < 1) {
    throw Error(ErrorCode::kInvalidArgument,
                "gradient reducer: a flat float32 buffer and buckets above 0 bytes are needed");
  }
  const std::int64_t size = gradients_.numel();
  bucket_size_ = std::max<std::int64_t>(options.bucket_bytes / 4, 1);
  if (!options.overlap) bucket_size_ = std::max<std::int64_t>(size, 1);
  for (std::int64_t end = size; end > 0; end -= bucket_size_) {
    const std::int64_t begin = std::max<std::int64_t>(end - bucket_size_, 0);
    buckets_.push_back({begin, end, end - begin});
  }
}

void GradientReducer::Announce(std::int64_t begin, std::int64_t end) {
  if (begin < 0 || begin > end || end > gradients_.numel()) {
    throw Error(ErrorCode::kInternal, fmt::format("gradients [{}, {}) were announced, of {}", begin,
                                                  end, gradients_.numel()));
  }
  auto after = announced_.lower_bound(begin);
  const bool meets_next = after != announced_.end() && after->first < end;
  const bool meets_previous = after != announced_.begin() && std::prev(after)->second > begin;
  if (meets_next || meets_previous) {
    throw Error(
        ErrorCode::kInternal,
        fmt::format("gradients within [{}, {}) were announced twice in one step", begin, end));
  }
  if (after != announced_.end() && after->first == end) {
    end = after->second;
    after = announced_.erase(after);
  }
  if (after != announced_.begin() && std::prev(after)->second == begin) {
    std::prev(after)->second = end;
  } else {
    announced_.emplace(begin, end);
  }
}

void GradientReducer::Ready(std::int64_t begin, std::int64_t end) {
  if (begin == end) return;
  Announce(begin, end);
  const std::int64_t size = gradients_.numel();
  const std::int64_t last = (size - 1 - begin) / bucket_size_;
  for (std::int64_t i = (size - end) / bucket_size_; i <= last; ++i) {
    Bucket& bucket = buckets_[static_cast<std::size_t>(i)];
    bucket.missing -= std::min(end, bucket.end) - std::max(begin, bucket.begin);
  }
  StartWholeBuckets();
}

void GradientReducer::StartWholeBuckets() {
  for (; started_ < buckets_.size() && buckets_[started_].missing == 0; ++started_) {
    const Bucket& bucket = buckets_[started_];
    pending_.push_back(
        comm_.StartAllReduceSum(gradients_.slice(0, bucket.begin, bucket.end), wire_));
  }
}

void GradientReducer::Finish() {
  if (started_ < buckets_.size()) {
    const Bucket& bucket = buckets_[started_];
    throw Error(ErrorCode::kInternal,
                fmt::format("{} of the gradients [{}, {}) were not announced in this step",
                            bucket.missing, bucket.begin, bucket.end));
  }
  for (const auto& pending : pending_) pending->Wait();
  pending_.clear();
  announced_.clear();
  started_ = 0;
  for (Bucket& bucket : buckets_) bucket.missing = bucket.end - bucket.begin;
}

}  // namespace fr
