#include "worker/optim/momentum_pass.h"

#include <torch/torch.h>

#include "worker/gpu/gpu.h"
#include "worker/gpu/gpu_kernels.h"

namespace fr {

MomentumPass::MomentumPass(const OptimizerSpec& spec, const FlatParameters& parameters)
    : momentum_(static_cast<float>(spec.momentum())),
      decays_(WeightDecays(spec, parameters)),
      pieces_(parameters.entries()),
      velocity_(at::zeros_like(parameters.values())) {
  if (GpuOf(velocity_) != nullptr) decays_on_gpu_ = ToGpu(decays_);
}

void MomentumPass::Run(FlatParameters& parameters, MomentumRule common,
                       const std::vector<double>& gains) {
  common.momentum = momentum_;
  if (const Gpu* gpu = GpuOf(velocity_)) {
    const at::Tensor gain = gains.empty() ? at::Tensor() : ToGpu(gains);
    GpuMomentumPass work;
    work.pieces = pieces_.OnGpu();
    work.rule = common;
    work.decay = decays_on_gpu_.const_data_ptr<float>();
    work.gain = gain.defined() ? gain.const_data_ptr<float>() : nullptr;
    work.w = parameters.values().mutable_data_ptr<float>();
    work.g = parameters.gradients().mutable_data_ptr<float>();
    work.v = velocity_.mutable_data_ptr<float>();
    gpu->kernels().momentum_pass(work, gpu->stream());
    return;
  }
  auto* w = parameters.values().mutable_data_ptr<float>();
  auto* g = parameters.gradients().mutable_data_ptr<float>();
  auto* v = velocity_.mutable_data_ptr<float>();
  pieces_.ForEach([&](std::size_t i) {
    const auto& [begin, end, parameter] = pieces_[i];
    MomentumRule rule = common;
    rule.decay = static_cast<float>(decays_[parameter]);
    if (!gains.empty()) rule.gain = static_cast<float>(gains[parameter]);
    UpdateByMomentum(w + begin, g + begin, v + begin, end - begin, rule);
  });
}

}  // namespace fr
