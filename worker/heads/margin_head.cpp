#include "worker/heads/margin_head.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include <ATen/Parallel.h>

#include "common/base/error.h"
#include "worker/comm/communicator.h"
#include "worker/heads/margin.h"
#include "worker/heads/row_init.h"
#include "worker/simd.h"

namespace fr {
namespace {

constexpr double kInitialSigma = 0.01;
// A row this short has no direction: its logits are those of a longer one in the same direction.
constexpr double kMinNorm = 1e-12;

struct Sgd {
  float lr;
  float momentum;
  float weight_decay;
};

// From h[d] = (sum over samples of d loss / d cosine, times x̂[d]) / |w|, the gradient as if the
// norm were constant: takes out its component along w (the norm's own derivative), then
// v = momentum v + g + decay w; w -= lr v. Per row of [rows, dim].
FR_SIMD_CLONES
void UpdateRows(const float* h, const float* inverse_norm, float* w, float* v, std::int64_t rows,
                std::int64_t dim, Sgd sgd) {
  for (std::int64_t row = 0; row < rows; ++row) {
    float along = 0;
#pragma omp simd reduction(+ : along)
    for (std::int64_t d = 0; d < dim; ++d) along += h[d] * w[d];
    const float radial = along * inverse_norm[row] * inverse_norm[row];
#pragma omp simd
    for (std::int64_t d = 0; d < dim; ++d) {
      v[d] = sgd.momentum * v[d] + h[d] + (sgd.weight_decay - radial) * w[d];
      w[d] -= sgd.lr * v[d];
    }
    h += dim;
    w += dim;
    v += dim;
  }
}

void CheckFinite(const at::Tensor& rows, const char* what, int rank) {
  const at::Tensor finite = at::isfinite(rows).view({rows.size(0), -1}).all(1);
  if (finite.all().item<bool>()) return;
  const std::int64_t row = at::argmin(finite.to(at::kByte)).item<std::int64_t>();
  throw Error(
      ErrorCode::kDataLoss,
      fmt::format("rank {}: {} of sample {} of its batch is not finite: the training "
                  "diverged; lower optimizer.lr or lengthen optimizer.schedule.warmup_steps",
                  rank, what, row));
}

}  // namespace

// A sample whose identity lies in this rank's range.
struct MarginHead::Target {
  std::int64_t sample = 0;
  std::int64_t row = 0;  // of this rank's weights
};

// What both passes share.
struct MarginHead::Batch {
  at::Tensor x;                 // [B, D] normalised embeddings of all ranks
  std::vector<Target> targets;  // ascending in row
  at::Tensor logits;            // [B, tile_rows] buffer
  at::Tensor inverse_norms;     // [range.size()], filled by pass 1
};

MarginHead::MarginHead(const MarginHeadOptions& options, IdentityRange range, Communicator& comm)
    : options_(options),
      range_(range),
      comm_(comm),
      weight_(at::empty({range.size(), options.embedding_size}, at::kFloat)),
      momentum_(at::zeros({range.size(), options.embedding_size}, at::kFloat)) {
  float* weight = weight_.mutable_data_ptr<float>();
  at::parallel_for(0, range.size(), 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      InitialRow(options.seed, range.begin + row, kInitialSigma,
                 weight + row * options.embedding_size, options.embedding_size);
    }
  });
}

std::vector<MarginHead::Target> MarginHead::OwnTargets(const at::Tensor& labels) const {
  std::vector<Target> targets;
  const std::int64_t* label = labels.const_data_ptr<std::int64_t>();
  for (std::int64_t sample = 0; sample < labels.numel(); ++sample) {
    if (label[sample] >= range_.begin && label[sample] < range_.end) {
      targets.push_back({sample, label[sample] - range_.begin});
    }
  }
  std::sort(targets.begin(), targets.end(),
            [](const Target& a, const Target& b) { return a.row < b.row; });
  return targets;
}

at::Tensor MarginHead::TileLogits(const Batch& batch, std::int64_t begin, std::int64_t end,
                                  std::vector<TileTarget>* tile_targets) const {
  at::Tensor logits = batch.logits.flatten()
                          .slice(0, 0, batch.x.size(0) * (end - begin))
                          .view({batch.x.size(0), end - begin});
  at::mm_out(logits, batch.x, weight_.slice(0, begin, end).t());
  logits.mul_(batch.inverse_norms.slice(0, begin, end).mul(options_.scale));
  tile_targets->clear();
  float* z = logits.mutable_data_ptr<float>();
  auto target = std::lower_bound(batch.targets.begin(), batch.targets.end(), begin,
                                 [](const Target& t, std::int64_t row) { return t.row < row; });
  for (; target != batch.targets.end() && target->row < end; ++target) {
    float& logit = z[target->sample * (end - begin) + target->row - begin];
    const MarginValue margin = ArcFace(logit / options_.scale, options_.margin);
    logit = static_cast<float>(options_.scale * margin.psi);
    tile_targets->push_back({target->sample, target->row - begin, logit, margin.derivative});
  }
  return logits;
}

MarginHead::Softmax MarginHead::Normaliser(Batch& batch) const {
  const std::int64_t samples = batch.x.size(0);
  const auto float64 = at::TensorOptions(at::kDouble);
  at::Tensor largest = at::full({samples}, -std::numeric_limits<double>::infinity(), float64);
  // Row 0: sums of exp(z - largest); row 1: the target's logit, on the rank that owns it.
  at::Tensor sums = at::zeros({2, samples}, float64);
  double* target_logits = sums[1].mutable_data_ptr<double>();
  std::vector<TileTarget> tile_targets;
  for (std::int64_t begin = 0; begin < range_.size(); begin += options_.tile_rows) {
    const std::int64_t end = std::min(begin + options_.tile_rows, range_.size());
    batch.inverse_norms.slice(0, begin, end)
        .copy_(weight_.slice(0, begin, end).norm(2, 1).clamp_min_(kMinNorm).reciprocal_());
    at::Tensor z = TileLogits(batch, begin, end, &tile_targets);
    for (const TileTarget& target : tile_targets) target_logits[target.sample] = target.logit;
    const at::Tensor now = at::maximum(largest, z.amax(1).to(at::kDouble));
    const at::Tensor tile_sum = z.sub_(now.to(at::kFloat).unsqueeze(1)).exp_().sum(1);
    sums[0].mul_((largest - now).exp_()).add_(tile_sum);
    largest = now;
  }
  at::Tensor global_largest = largest.clone();
  comm_.AllReduceMax(global_largest);
  sums[0].mul_((largest - global_largest).exp_());
  comm_.AllReduceSum(sums);
  return {global_largest + sums[0].log(), sums[1],
          (sums[1] >= global_largest).to(at::kDouble).mean().item<double>()};
}

at::Tensor MarginHead::UpdateTiles(const Batch& batch, const at::Tensor& log_sum_exp, double lr) {
  const std::int64_t samples = batch.x.size(0);
  const at::Tensor shift = log_sum_exp.to(at::kFloat).unsqueeze(1);
  const auto share = static_cast<float>(options_.scale / static_cast<double>(samples));
  at::Tensor dx = at::zeros_like(batch.x);
  at::Tensor h =
      at::empty({std::min(options_.tile_rows, range_.size()), batch.x.size(1)}, at::kFloat);
  std::vector<TileTarget> tile_targets;
  for (std::int64_t begin = 0; begin < range_.size(); begin += options_.tile_rows) {
    const std::int64_t end = std::min(begin + options_.tile_rows, range_.size());
    // d loss / d cosine = scale (p - one-hot) psi' / B; then over |w|, for both products want it.
    at::Tensor g = TileLogits(batch, begin, end, &tile_targets).sub_(shift).exp_().mul_(share);
    for (const TileTarget& target : tile_targets) {
      float& entry = g.mutable_data_ptr<float>()[target.sample * (end - begin) + target.column];
      entry = static_cast<float>((entry - share) * target.derivative);
    }
    g.mul_(batch.inverse_norms.slice(0, begin, end));
    at::Tensor weight = weight_.slice(0, begin, end);
    dx.addmm_(g, weight);
    at::Tensor tile_h = h.slice(0, 0, end - begin);
    at::mm_out(tile_h, g.t(), batch.x);
    UpdateTile(tile_h, batch.inverse_norms, begin, lr);
  }
  return dx;
}

void MarginHead::UpdateTile(const at::Tensor& h, const at::Tensor& inverse_norms,
                            std::int64_t begin, double lr) {
  const std::int64_t dim = weight_.size(1);
  const Sgd sgd{static_cast<float>(lr), static_cast<float>(options_.momentum),
                static_cast<float>(options_.weight_decay)};
  const float* gradient = h.const_data_ptr<float>();
  const float* inverse_norm = inverse_norms.const_data_ptr<float>() + begin;
  float* weight = weight_.mutable_data_ptr<float>() + begin * dim;
  float* momentum = momentum_.mutable_data_ptr<float>() + begin * dim;
  at::parallel_for(0, h.size(0), 64, [&](std::int64_t first, std::int64_t last) {
    UpdateRows(gradient + first * dim, inverse_norm + first, weight + first * dim,
               momentum + first * dim, last - first, dim, sgd);
  });
}

HeadStepResult MarginHead::Step(const at::Tensor& embeddings, const at::Tensor& labels,
                                const std::vector<std::int64_t>& rows_per_rank, double lr) {
  const at::NoGradGuard no_grad;
  CheckFinite(embeddings, "the embedding", comm_.rank());
  const at::Tensor norms = embeddings.norm(2, 1, /*keepdim=*/true).clamp_min_(kMinNorm);
  const at::Tensor own_x = (embeddings / norms).contiguous();

  Batch batch;
  batch.x = comm_.AllGatherRows(own_x, rows_per_rank);
  batch.targets = OwnTargets(comm_.AllGatherRows(labels.contiguous(), rows_per_rank));
  const std::int64_t tile = std::min(options_.tile_rows, std::max<std::int64_t>(range_.size(), 1));
  batch.logits = at::empty({batch.x.size(0), tile}, at::kFloat);
  batch.inverse_norms = at::empty({range_.size()}, at::kFloat);

  const Softmax softmax = Normaliser(batch);
  CheckFinite(softmax.log_sum_exp, "the softmax", comm_.rank());
  const at::Tensor dx = UpdateTiles(batch, softmax.log_sum_exp, lr);
  const at::Tensor own_dx = comm_.ReduceScatterRows(dx, rows_per_rank);

  HeadStepResult result;
  result.loss = (softmax.log_sum_exp - softmax.target_logits).mean().item<double>();
  result.accuracy = softmax.accuracy;
  // Backward through x̂ = x / |x|.
  result.embedding_gradients = (own_dx - own_x * (own_dx * own_x).sum(1, /*keepdim=*/true)) / norms;
  return result;
}

}  // namespace fr
