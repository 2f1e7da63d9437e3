#include "worker/eval/verifier.h"

#include <algorithm>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/networks/preprocessing.h"
#include "worker/comm/communicator.h"
#include "worker/data/images/image.h"
#include "worker/eval/verification_metrics.h"

namespace fr {
namespace {

Batch DecodeBatch(const VerificationSet& set, std::int64_t begin, std::int64_t end) {
  Batch batch{kImageSide, kImageSide, {}, {}};
  constexpr std::size_t kImageBytes = std::size_t{kImageSide} * kImageSide * 3;
  batch.labels.resize(static_cast<std::size_t>(end - begin));
  batch.images.resize(batch.labels.size() * kImageBytes);
  for (std::int64_t i = begin; i < end; ++i) {
    try {
      DecodeImageInto(set.image(i), kImageSide, kImageSide,
                      batch.images.data() + static_cast<std::size_t>(i - begin) * kImageBytes);
    } catch (const Error& error) {
      throw Error(error.code(),
                  fmt::format("{}: image {}: {}", set.path().string(), i, error.what()));
    }
  }
  return batch;
}

// Squared distances of the normalised embeddings of each pair.
std::vector<double> PairDistances(const torch::Tensor& embeddings) {
  const torch::Tensor normalised = torch::nn::functional::normalize(
      embeddings.to(torch::kFloat64), torch::nn::functional::NormalizeFuncOptions().dim(1));
  const torch::Tensor pairs = normalised.view({-1, 2, embeddings.size(1)});
  const torch::Tensor distances =
      (pairs.select(1, 0) - pairs.select(1, 1)).square().sum(1).contiguous();
  const auto* begin = distances.const_data_ptr<double>();
  return {begin, begin + distances.numel()};
}

}  // namespace

at::Tensor EmbedBothWays(const EmbedFunction& embed, Batch images) {
  const at::Tensor straight = embed(images);
  const std::size_t image_bytes = images.images.size() / images.labels.size();
  for (std::size_t at = 0; at < images.images.size(); at += image_bytes) {
    FlipHorizontally(images.height, images.width, images.images.data() + at);
  }
  return straight + embed(images);
}

at::Tensor EmbedWithMirror(const EmbedFunction& embed, const VerificationSet& set,
                           std::int64_t begin, std::int64_t end, int batch) {
  std::vector<at::Tensor> parts;
  for (std::int64_t i = begin; i < end; i += batch) {
    parts.push_back(EmbedBothWays(embed, DecodeBatch(set, i, std::min(i + batch, end))));
  }
  return torch::cat(parts);
}

ValidationResult EvaluateEmbeddings(const at::Tensor& embeddings, const VerificationSet& set,
                                    const std::string& set_name, std::int64_t step) {
  const VerificationMetrics metrics = EvaluatePairs(PairDistances(embeddings), set.same());
  ValidationResult result;
  result.set_set(set_name);
  result.set_step(step);
  result.set_accuracy(metrics.accuracy);
  result.set_accuracy_std(metrics.accuracy_std);
  result.set_auc(metrics.auc);
  result.set_eer(metrics.eer);
  result.set_tar_at_far_1e3(metrics.tar_at_far_1e3);
  result.set_threshold(metrics.threshold);
  // Of image and mirror image together: half of it is the usual norm.
  result.set_embedding_norm(embeddings.norm(2, {1}).mean().item<double>() / 2);
  result.set_num_pairs(set.num_pairs());
  return result;
}

ValidationResult Verify(const EmbedFunction& embed, const VerificationSet& set,
                        const std::string& set_name, std::int64_t step, int batch,
                        Communicator& comm) {
  const int world = comm.world_size();
  std::vector<std::int64_t> rows;
  for (int rank = 0; rank < world; ++rank) {
    rows.push_back(set.num_images() * (rank + 1) / world - set.num_images() * rank / world);
  }
  const std::int64_t begin = set.num_images() * comm.rank() / world;
  const std::int64_t size = rows[static_cast<std::size_t>(comm.rank())];
  at::Tensor own;
  if (size > 0) own = EmbedWithMirror(embed, set, begin, begin + size, batch);
  const std::vector<std::int64_t> widths = comm.AllGather(size > 0 ? own.size(1) : 0);
  if (size == 0) own = torch::empty({0, *std::max_element(widths.begin(), widths.end())});
  return EvaluateEmbeddings(comm.AllGatherRows(own.contiguous(), rows), set, set_name, step);
}

}  // namespace fr
