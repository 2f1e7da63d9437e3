#include "worker/optim/adamw.h"

#include <cmath>

#include <torch/torch.h>

#include "worker/gpu/gpu.h"
#include "worker/gpu/gpu_kernels.h"
#include "worker/optim/flat_pieces.h"
#include "worker/optim/updates.h"

namespace fr {
namespace {

class AdamW final : public Optimizer {
 public:
  AdamW(const OptimizerSpec& spec, const FlatParameters& parameters)
      : beta1_(spec.beta1()),
        beta2_(spec.beta2()),
        epsilon_(spec.epsilon()),
        decays_(WeightDecays(spec, parameters)),
        pieces_(parameters.entries()),
        first_(at::zeros_like(parameters.values())),
        second_(at::zeros_like(parameters.values())) {}

  void Step(FlatParameters& parameters, const StepInputs& inputs) override {
    const AdamRule common = Rule(inputs);
    if (const Gpu* gpu = GpuOf(first_)) return StepOnGpu(*gpu, parameters, common, inputs.lr);
    auto* w = parameters.values().mutable_data_ptr<float>();
    auto* g = parameters.gradients().mutable_data_ptr<float>();
    auto* m = first_.mutable_data_ptr<float>();
    auto* v = second_.mutable_data_ptr<float>();
    pieces_.ForEach([&](std::size_t i) {
      const auto& [begin, end, parameter] = pieces_[i];
      AdamRule rule = common;
      rule.keep = static_cast<float>(1 - inputs.lr * decays_[parameter]);
      UpdateByAdam(w + begin, g + begin, m + begin, v + begin, end - begin, rule);
    });
  }

  std::vector<std::pair<std::string, at::Tensor>> State() override {
    return {{"first", first_}, {"second", second_}};
  }

 private:
  AdamRule Rule(const StepInputs& inputs) const {
    const auto t = static_cast<double>(inputs.step + 1);
    AdamRule rule;
    rule.scale = static_cast<float>(inputs.gradient_scale);
    rule.beta1 = static_cast<float>(beta1_);
    rule.rest1 = static_cast<float>(1 - beta1_);
    rule.beta2 = static_cast<float>(beta2_);
    rule.rest2 = static_cast<float>(1 - beta2_);
    rule.rate = static_cast<float>(inputs.lr / (1 - std::pow(beta1_, t)));
    rule.root = static_cast<float>(1 / std::sqrt(1 - std::pow(beta2_, t)));
    rule.epsilon = static_cast<float>(epsilon_);
    return rule;
  }

  void StepOnGpu(const Gpu& gpu, FlatParameters& parameters, const AdamRule& rule, double lr) {
    std::vector<double> keeps;
    for (const double decay : decays_) keeps.push_back(1 - lr * decay);
    const at::Tensor keep = ToGpu(keeps);
    GpuAdamPass work;
    work.pieces = pieces_.OnGpu();
    work.rule = rule;
    work.keep = keep.const_data_ptr<float>();
    work.w = parameters.values().mutable_data_ptr<float>();
    work.g = parameters.gradients().mutable_data_ptr<float>();
    work.m = first_.mutable_data_ptr<float>();
    work.v = second_.mutable_data_ptr<float>();
    gpu.kernels().adam_pass(work, gpu.stream());
  }

  double beta1_;
  double beta2_;
  double epsilon_;
  std::vector<double> decays_;
  FlatPieces pieces_;
  at::Tensor first_;
  at::Tensor second_;
};

}  // namespace

std::unique_ptr<Optimizer> MakeAdamW(const OptimizerSpec& spec, const FlatParameters& parameters) {
  return std::make_unique<AdamW>(spec, parameters);
}

}  // namespace fr
