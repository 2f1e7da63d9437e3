#include "worker/optim/weight_average.h"

#include <algorithm>

#include <ATen/Parallel.h>

#include "worker/gpu/gpu.h"
#include "worker/gpu/gpu_kernels.h"
#include "worker/optim/updates.h"

namespace fr {
namespace {

constexpr std::int64_t kGrainElements = 64 * 1024;

void Average(const at::Tensor& average, const at::Tensor& value, float share) {
  auto* a = average.mutable_data_ptr<float>();
  const auto* w = value.const_data_ptr<float>();
  if (const Gpu* gpu = GpuOf(average)) {
    gpu->kernels().move_towards(a, w, average.numel(), share, gpu->stream());
    return;
  }
  at::parallel_for(0, average.numel(), kGrainElements, [&](std::int64_t begin, std::int64_t end) {
    MoveTowards(a + begin, w + begin, end - begin, share);
  });
}

}  // namespace

WeightAverage::WeightAverage(const Graph& graph, const NetworkState& state, double decay)
    : decay_(decay), average_(graph, /*trained=*/false) {
  const torch::NoGradGuard no_grad;
  const NamedTensors source = state.Named();
  const NamedTensors target = average_.Named();
  for (std::size_t i = 0; i < source.size(); ++i) target[i].second.copy_(source[i].second);
}

void WeightAverage::Update(const NetworkState& state, std::int64_t step) {
  const auto t = static_cast<double>(step);
  const auto share = static_cast<float>(1 - std::min(decay_, (1 + t) / (10 + t)));
  Average(average_.trained().values(), state.trained().values(), share);
  const NamedTensors source = state.Statistics();
  const NamedTensors target = average_.Statistics();
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i].second.is_floating_point()) {
      Average(target[i].second, source[i].second, share);
    } else {
      target[i].second.copy_(source[i].second);
    }
  }
}

}  // namespace fr
