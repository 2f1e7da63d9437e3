#include "worker/heads/head_shard.h"

namespace fr {

std::vector<std::pair<std::string, at::Tensor>> NamedRowTensors(
    const HeadShardOptions& options, const std::function<at::Tensor(const at::Tensor&)>& view,
    const RowStorage& storage) {
  const bool adam = options.optimizer == HeadOptimizer::kAdamW;
  const std::string first = adam ? "exp_avg" : "momentum";
  std::vector<std::pair<std::string, at::Tensor>> tensors{{"weight", view(storage.weight)}};
  tensors.emplace_back(first, view(storage.first));
  if (adam) tensors.emplace_back("exp_avg_sq", view(storage.second));
  if (options.bias) {
    tensors.emplace_back("bias", storage.bias);
    tensors.emplace_back("bias." + first, storage.bias_first);
    if (adam) tensors.emplace_back("bias.exp_avg_sq", storage.bias_second);
  }
  return tensors;
}

}  // namespace fr
