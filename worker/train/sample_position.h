#pragma once
// Where a run stands in its data, whatever the number of ranks.

#include <cstdint>

namespace fr {

// `samples` of epoch `epoch` have been trained on.
struct SamplePosition {
  std::int64_t epoch = 0;
  std::int64_t samples = 0;
  bool operator==(const SamplePosition&) const = default;
};

// Where the next global batch of `batch` samples begins: at `position`, or at the next epoch when
// fewer than `batch` of the epoch's `num_samples` are left (the remainder is dropped).
// Requires 0 < batch <= num_samples.
SamplePosition BatchStart(SamplePosition position, std::int64_t num_samples, std::int64_t batch);

// Steps from `position` to the end of the last of `epochs` epochs.
std::int64_t RemainingSteps(SamplePosition position, std::int64_t epochs, std::int64_t num_samples,
                            std::int64_t batch);

}  // namespace fr
