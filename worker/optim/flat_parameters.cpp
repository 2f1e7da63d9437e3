#include "worker/optim/flat_parameters.h"

#include <torch/torch.h>

#include "worker/gpu/gpu.h"

namespace fr {
namespace {

// Strides that lie without gaps: channels-last for convolutions, row-major for the rest.
std::vector<std::int64_t> DenseStrides(const std::vector<std::int64_t>& sizes) {
  const auto format =
      sizes.size() == 4 ? torch::MemoryFormat::ChannelsLast : torch::MemoryFormat::Contiguous;
  return at::empty(sizes, torch::TensorOptions(torch::kMeta).memory_format(format)).strides().vec();
}

}  // namespace

FlatParameters::FlatParameters(
    const std::vector<std::pair<std::string, std::vector<std::int64_t>>>& parameters,
    bool with_gradients) {
  std::int64_t size = 0;
  for (const auto& [name, sizes] : parameters) {
    entries_.push_back({name, size, sizes, DenseStrides(sizes)});
    size += c10::multiply_integers(sizes);
  }
  const auto options = at::TensorOptions(ComputeDevice()).dtype(at::kFloat);
  values_ = at::zeros({size}, options);
  if (with_gradients) gradients_ = at::zeros({size}, options);
}

at::Tensor FlatParameters::View(const at::Tensor& flat, const Entry& entry) {
  return flat.as_strided(entry.sizes, entry.strides, entry.offset);
}

}  // namespace fr
