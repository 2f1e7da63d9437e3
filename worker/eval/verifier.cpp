#include "worker/eval/verifier.h"

#include <algorithm>

#include <fmt/format.h>

#include "common/base/error.h"
#include "worker/backbones/backbone.h"
#include "worker/comm/communicator.h"
#include "worker/data/image.h"
#include "worker/data/loader.h"
#include "worker/eval/verification_metrics.h"
#include "worker/train/network_input.h"

namespace fr {
namespace {

constexpr int kSide = 112;  // what the networks take

Batch DecodeBatch(const VerificationSet& set, std::int64_t begin, std::int64_t end) {
  Batch batch{kSide, kSide, {}, {}};
  constexpr std::size_t kImageBytes = std::size_t{kSide} * kSide * 3;
  batch.labels.resize(static_cast<std::size_t>(end - begin));
  batch.images.resize(batch.labels.size() * kImageBytes);
  for (std::int64_t i = begin; i < end; ++i) {
    try {
      DecodeImageInto(set.image(i), kSide, kSide,
                      batch.images.data() + static_cast<std::size_t>(i - begin) * kImageBytes);
    } catch (const Error& error) {
      throw Error(error.code(),
                  fmt::format("{}: image {}: {}", set.path().string(), i, error.what()));
    }
  }
  return batch;
}

// Puts the backbone into evaluation mode, and back.
class EvaluationMode {
 public:
  explicit EvaluationMode(Backbone& backbone)
      : backbone_(backbone), was_training_(backbone.is_training()) {
    backbone_.eval();
  }
  ~EvaluationMode() { backbone_.train(was_training_); }
  EvaluationMode(const EvaluationMode&) = delete;
  EvaluationMode& operator=(const EvaluationMode&) = delete;

 private:
  Backbone& backbone_;
  bool was_training_;
};

// Embeddings of images [begin, end), mirror images added, not normalised: [end - begin, D].
torch::Tensor Embed(Backbone& backbone, const VerificationSet& set, std::int64_t begin,
                    std::int64_t end, int batch) {
  const torch::NoGradGuard no_grad;
  const EvaluationMode mode(backbone);
  std::vector<torch::Tensor> parts;
  for (std::int64_t i = begin; i < end; i += batch) {
    const torch::Tensor images = NetworkInput(DecodeBatch(set, i, std::min(i + batch, end)));
    const torch::Tensor mirrored = images.flip({3}).contiguous(torch::MemoryFormat::ChannelsLast);
    parts.push_back(backbone.forward(images) + backbone.forward(mirrored));
  }
  return torch::cat(parts);
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

ValidationResult Verify(Backbone& backbone, const VerificationSet& set, const std::string& set_name,
                        std::int64_t step, int batch, Communicator& comm) {
  const int world = comm.world_size();
  std::vector<std::int64_t> rows;
  for (int rank = 0; rank < world; ++rank) {
    rows.push_back(set.num_images() * (rank + 1) / world - set.num_images() * rank / world);
  }
  const std::int64_t begin = set.num_images() * comm.rank() / world;
  const std::int64_t size = rows[static_cast<std::size_t>(comm.rank())];
  torch::Tensor own;
  if (size > 0) {
    own = Embed(backbone, set, begin, begin + size, batch);
  }
  const std::vector<std::int64_t> widths = comm.AllGather(size > 0 ? own.size(1) : 0);
  if (size == 0) own = torch::empty({0, *std::max_element(widths.begin(), widths.end())});
  const torch::Tensor embeddings = comm.AllGatherRows(own.contiguous(), rows);

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

}  // namespace fr
