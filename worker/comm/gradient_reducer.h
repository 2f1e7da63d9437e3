#pragma once
// Sums a network's gradients over the ranks while its backward pass still runs.

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "worker/comm/communicator.h"

namespace fr {

struct GradientReducerOptions {
  // Of a message, in float32. Smaller ones start earlier and leave less to wait for at the end;
  // larger ones pay the latency less often.
  std::int64_t bucket_bytes = std::int64_t{25} << 20;
  // Off: one all-reduce at the end. The same bits.
  bool overlap = true;
  Wire wire = Wire::kFloat32;
};

// Over a flat buffer, cut into buckets from back to front, which is the order in which a backward
// pass completes it. In every step each rank announces each element once; a bucket's all-reduce
// starts when all of it was announced. All ranks send the buckets in the same order, the rearmost
// first, in whatever order they announce.
class GradientReducer {
 public:
  // gradients [n] float32, contiguous; `comm` outlives this. Throws Error(kInvalidArgument) for
  // anything else.
  GradientReducer(at::Tensor gradients, Communicator& comm, const GradientReducerOptions& options);

  // Elements [begin, end) have their values of this step: nobody touches them until Finish
  // returned. Throws Error(kInternal) when some were announced before in this step, or there are no
  // such elements.
  void Ready(std::int64_t begin, std::int64_t end);

  // Waits for the sums; the next step begins. Collective. Throws Error(kInternal) when elements
  // were not announced, and what a collective failed with.
  void Finish();

 private:
  struct Bucket {
    std::int64_t begin = 0;
    std::int64_t end = 0;
    std::int64_t missing = 0;  // elements not announced yet
  };

  void Announce(std::int64_t begin, std::int64_t end);
  void StartWholeBuckets();

  at::Tensor gradients_;
  Communicator& comm_;
  Wire wire_;
  std::int64_t bucket_size_ = 0;                    // in elements
  std::vector<Bucket> buckets_;                     // from the back
  std::size_t started_ = 0;                         // of the buckets
  std::map<std::int64_t, std::int64_t> announced_;  // end by begin, neighbours joined
  std::vector<std::unique_ptr<PendingCollective>> pending_;
};

}  // namespace fr
