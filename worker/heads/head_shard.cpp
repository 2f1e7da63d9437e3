#include "worker/heads/head_shard.h"

#include <ATen/Parallel.h>

#include "worker/heads/row_init.h"

namespace fr {
namespace {

constexpr double kInitialSigma = 0.01;

}  // namespace

std::vector<std::pair<std::string, at::Tensor>> NamedRowTensors(const HeadShardOptions& options,
                                                                std::int64_t identities,
                                                                const RowStorage& storage) {
  // [rows, padded columns] -> [n, D] or [n, K, D]
  const auto view = [&](const at::Tensor& rows) {
    const at::Tensor used = rows.slice(1, 0, options.embedding_size);
    return options.sub_centers == 1 ? used : used.unflatten(0, {identities, options.sub_centers});
  };
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

void DrawInitialRows(const HeadShardOptions& options, IdentityRange range, std::int64_t first,
                     std::int64_t count, float* rows, std::int64_t stride) {
  const std::int64_t centers = options.sub_centers;
  at::parallel_for(0, count, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t row = first + i;
      // Sub-centers are drawn as further columns of their identity.
      InitialRow(options.seed, range.begin + row / centers, kInitialSigma,
                 (row % centers) * options.embedding_size, rows + i * stride,
                 options.embedding_size);
    }
  });
}

}  // namespace fr
