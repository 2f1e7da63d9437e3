#include "worker/model/host_tensors.h"

#include <cstring>
#include <memory>

namespace fr {

at::Tensor ToTensor(const HostTensor& tensor) {
  // Whole numbers stay what they are: counters.
  if (tensor.dtype == Dtype::kInt64) {
    at::Tensor copy = at::empty(tensor.shape, torch::kInt64);
    if (copy.numel() > 0) std::memcpy(copy.data_ptr(), tensor.bytes.data(), tensor.bytes.size());
    return copy;
  }
  const HostTensor floats = tensor.ToFloat32();
  at::Tensor copy = at::empty(tensor.shape, torch::kFloat32);
  if (copy.numel() > 0) std::memcpy(copy.data_ptr(), floats.bytes.data(), floats.bytes.size());
  return copy;
}

HostTensor ToHostTensor(const at::Tensor& tensor) {
  const auto dense = std::make_shared<at::Tensor>(tensor.detach().contiguous().cpu());
  HostTensor host;
  host.dtype = Dtype::kFloat32;
  host.shape = dense->sizes().vec();
  host.bytes = {static_cast<const char*>(dense->const_data_ptr()), dense->nbytes()};
  host.owner = dense;
  return host;
}

}  // namespace fr
