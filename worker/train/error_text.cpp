#include "worker/train/error_text.h"

#include <torch/torch.h>

namespace fr {

std::string ErrorText(const std::exception& error) {
  if (const auto* full = dynamic_cast<const c10::OutOfMemoryError*>(&error)) {
    return std::string(
               "the GPU's memory is full: lower data.batch_size, set model.recompute, or take more "
               "workers, which share the head's rows; ") +
           full->what_without_backtrace();
  }
  const auto* from_torch = dynamic_cast<const c10::Error*>(&error);
  return from_torch != nullptr ? from_torch->what_without_backtrace() : error.what();
}

}  // namespace fr
