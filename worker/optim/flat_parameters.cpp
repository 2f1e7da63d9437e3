#include "worker/optim/flat_parameters.h"

#include <fmt/format.h>

#include "common/base/error.h"

namespace fr {
namespace {

// Strides that lie without gaps: channels-last for convolutions, row-major for the rest.
std::vector<std::int64_t> DenseStrides(const torch::Tensor& parameter) {
  const auto format =
      parameter.dim() == 4 ? torch::MemoryFormat::ChannelsLast : torch::MemoryFormat::Contiguous;
  return torch::empty(parameter.sizes(), torch::TensorOptions().memory_format(format))
      .strides()
      .vec();
}

}  // namespace

FlatParameters::FlatParameters(torch::nn::Module& module) {
  const torch::NoGradGuard no_grad;
  std::int64_t size = 0;
  for (const auto& item : module.named_parameters()) {
    const torch::Tensor& parameter = item.value();
    if (!parameter.requires_grad()) continue;
    if (parameter.scalar_type() != torch::kFloat32) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{}: parameters must be float32", item.key()));
    }
    entries_.push_back({item.key(), size, parameter.sizes().vec(), DenseStrides(parameter)});
    size += parameter.numel();
  }
  values_ = torch::empty({size});
  gradients_ = torch::zeros({size});
  const auto parameters = module.named_parameters();
  for (const Entry& entry : entries_) {
    torch::Tensor parameter = parameters[entry.name];
    const torch::Tensor view = View(values_, entry);
    view.copy_(parameter);
    parameter.set_data(view);
    parameter.mutable_grad() = View(gradients_, entry);
  }
}

at::Tensor FlatParameters::View(const at::Tensor& flat, const Entry& entry) {
  return flat.as_strided(entry.sizes, entry.strides, entry.offset);
}

}  // namespace fr
