#include "worker/train/error_text.h"

#include <torch/torch.h>

namespace fr {

std::string ErrorText(const std::exception& error) {
  const auto* from_torch = dynamic_cast<const c10::Error*>(&error);
  return from_torch != nullptr ? from_torch->what_without_backtrace() : error.what();
}

}  // namespace fr
