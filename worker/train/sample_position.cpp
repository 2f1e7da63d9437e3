#include "worker/train/sample_position.h"

#include <algorithm>

namespace fr {

SamplePosition BatchStart(SamplePosition position, std::int64_t num_samples, std::int64_t batch) {
  if (position.samples + batch <= num_samples) return position;
  return {position.epoch + 1, 0};
}

std::int64_t RemainingSteps(SamplePosition position, std::int64_t epochs, std::int64_t num_samples,
                            std::int64_t batch) {
  position = BatchStart(position, num_samples, batch);
  if (position.epoch >= epochs) return 0;
  const std::int64_t this_epoch = (num_samples - position.samples) / batch;
  return this_epoch + (epochs - position.epoch - 1) * (num_samples / batch);
}

}  // namespace fr
