#include "worker/data/storage_order.h"

#include <algorithm>
#include <numeric>

namespace fr {

StorageOrder::StorageOrder(const TrainingSet& set) {
  bool ascending = true;
  for (std::int64_t i = 1; ascending && i < set.num_images(); ++i) {
    ascending = set.StoragePosition(i - 1) <= set.StoragePosition(i);
  }
  if (ascending) return;
  order_.resize(static_cast<std::size_t>(set.num_images()));
  std::iota(order_.begin(), order_.end(), 0U);
  std::sort(order_.begin(), order_.end(), [&set](std::uint32_t a, std::uint32_t b) {
    return set.StoragePosition(a) < set.StoragePosition(b);
  });
}

}  // namespace fr
