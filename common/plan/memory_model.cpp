#include "common/plan/memory_model.h"

#include <algorithm>

namespace fr {

Buffer::Buffer(MemoryModel& model, std::int64_t bytes)
    : model_(model), bytes_(bytes), place_(model.Allocate(bytes)) {
  model_.live_ += bytes_;
  model_.peak_resident_ = std::max(model_.peak_resident_, model_.resident());
}

Buffer::~Buffer() {
  model_.live_ -= bytes_;
  model_.Free(bytes_, place_);
}

}  // namespace fr
