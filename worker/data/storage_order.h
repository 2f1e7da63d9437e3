#pragma once
// The images of a set in the order in which they lie on the disk.

#include <cstdint>
#include <vector>

#include "worker/data/training_set.h"

namespace fr {

// Takes four bytes an image, or nothing where images lie in the order of their indices.
class StorageOrder {
 public:
  explicit StorageOrder(const TrainingSet& set);

  // The image at `place` of [0, set.num_images()).
  std::int64_t operator[](std::int64_t place) const {
    return order_.empty() ? place : order_[static_cast<std::size_t>(place)];
  }

 private:
  std::vector<std::uint32_t> order_;
};

}  // namespace fr
