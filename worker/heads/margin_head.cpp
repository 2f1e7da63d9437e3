#include "worker/heads/margin_head.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/random.h"
#include "worker/comm/communicator.h"
#include "worker/gpu/gpu.h"
#include "worker/heads/finite.h"
#include "worker/heads/global_batch.h"
#include "worker/heads/gpu_head_shard.h"
#include "worker/heads/row_update.h"
#include "worker/heads/unit_rows.h"
#include "worker/optim/lars.h"

namespace fr {
namespace {

void Require(bool holds, const char* what) {
  if (!holds) throw Error(ErrorCode::kInvalidArgument, std::string("margin head: ") + what);
}

HeadShardOptions ShardOptions(const MarginHeadOptions& options) {
  Require(options.margin.scale > 0, "scale must be above 0");
  Require(options.margin.normalizes_embeddings() || options.margin.scale == 1,
          "softmax and SphereFace have no scale: it must be 1");
  Require(!options.margin.bias || options.margin.type == MarginType::kSoftmax,
          "only softmax has a bias");
  Require(
      options.margin.filter_threshold == 0 || (options.margin.type != MarginType::kCurricularFace &&
                                               options.margin.normalizes_embeddings()),
      "filtering is of cosines, and not with CurricularFace");
  Require(options.sample_rate > 0 && options.sample_rate <= 1, "sample_rate must be in (0, 1]");
  Require(options.mass_tolerance >= 0 && options.mass_tolerance < 1,
          "mass_tolerance must be in [0, 1)");
  Require(options.shard.sub_centers >= 1, "sub_centers must be at least 1");
  HeadShardOptions shard = options.shard;
  shard.normalizes_weights = options.margin.normalizes_weights();
  shard.unit_embeddings = options.margin.normalizes_embeddings();
  shard.bias = options.margin.bias;
  return shard;
}

std::unique_ptr<HeadShard> MakeShard(const HeadShardOptions& options, IdentityRange range) {
  Gpu* gpu = ProcessGpu();
  if (gpu != nullptr) return MakeGpuHeadShard(options, range, *gpu);
  return MakeCpuHeadShard(options, range);
}

std::vector<OwnTarget> OwnTargets(const at::Tensor& labels, IdentityRange range) {
  std::vector<OwnTarget> targets;
  const std::int64_t* label = labels.const_data_ptr<std::int64_t>();
  for (std::int64_t sample = 0; sample < labels.numel(); ++sample) {
    if (label[sample] >= range.begin && label[sample] < range.end) {
      targets.push_back({sample, label[sample] - range.begin});
    }
  }
  std::stable_sort(targets.begin(), targets.end(),
                   [](const OwnTarget& a, const OwnTarget& b) { return a.identity < b.identity; });
  return targets;
}

}  // namespace

struct MarginHead::Batch {
  UnitRows own;                // of the local batch
  std::int64_t first_own = 0;  // its first sample in the global batch
  std::vector<double> norms;   // [B]
  std::int64_t own_targets = 0;
};

// Over all identities of all ranks.
struct MarginHead::Loss {
  at::Tensor log_sum_exp;  // [B] float64
  double accuracy = 0;
  int skip_from = -1;
};

MarginHead::MarginHead(const MarginHeadOptions& options, IdentityRange range, Communicator& comm)
    : options_(options),
      range_(range),
      comm_(comm),
      shard_(MakeShard(ShardOptions(options), range)) {}

at::Tensor MarginHead::StateTensor() const {
  return torch::tensor({state_.step, state_.norm_mean, state_.norm_deviation, state_.curricular_t},
                       at::kDouble);
}

void MarginHead::SetState(const at::Tensor& state) {
  const double* value = state.const_data_ptr<double>();
  state_ = {value[0], value[1], value[2], value[3]};
}

// The global batch, and the targets of this rank's range in it.
MarginHead::Batch MarginHead::Gather(const at::Tensor& embeddings, const at::Tensor& labels,
                                     const std::vector<std::int64_t>& rows_per_rank) {
  Batch batch;
  batch.own = UnitRowsOf(embeddings);
  const at::Tensor own_x =
      options_.margin.normalizes_embeddings() ? batch.own.direction : embeddings.contiguous();
  const GlobalBatch all = GatherBatch({own_x, batch.own.norms, labels}, rows_per_rank, comm_);
  batch.first_own = all.first_own;
  batch.norms = all.norms;
  std::vector<OwnTarget> targets = OwnTargets(all.labels, range_);
  batch.own_targets = static_cast<std::int64_t>(targets.size());
  shard_->SetBatch(all.x, std::move(targets), Share());
  return batch;
}

SampledShare MarginHead::Share() const {
  if (options_.sample_rate >= 1) return {};
  return {
      MixKeys(options_.shard.seed, static_cast<std::uint64_t>(state_.step)),
      static_cast<std::uint64_t>(options_.sample_rate * static_cast<double>(SampledShare::kAll))};
}

NegativeRule MarginHead::Negatives(const std::vector<TargetLogit>& targets,
                                   std::vector<float>* hard) const {
  NegativeRule rule;
  if (options_.margin.type == MarginType::kCurricularFace) {
    rule.kind = NegativeRule::Kind::kCurricular;
    rule.t = static_cast<float>(state_.curricular_t);
    rule.inverse_scale = static_cast<float>(1 / options_.margin.scale);
    hard->assign((targets.size() + kSampleStep - 1) / kSampleStep * kSampleStep, 0.0F);
    for (std::size_t b = 0; b < targets.size(); ++b)
      (*hard)[b] = static_cast<float>(targets[b].hard);
    rule.hard = hard->data();
  } else if (options_.margin.filter_threshold > 0) {
    rule.kind = NegativeRule::Kind::kFilter;
    rule.threshold = static_cast<float>(options_.margin.filter_threshold * options_.margin.scale);
  }
  return rule;
}

// Pass 1, merged over the ranks.
MarginHead::Loss MarginHead::Softmax(const std::vector<TargetLogit>& targets,
                                     const NegativeRule& rule) {
  const auto samples = static_cast<std::int64_t>(targets.size());
  at::Tensor target_logits = at::empty({samples}, at::kDouble);
  for (std::int64_t b = 0; b < samples; ++b) {
    target_logits.mutable_data_ptr<double>()[b] = targets[b].logit;
  }
  const SoftmaxPass pass = shard_->Softmax(
      options_.margin.scale, rule, options_.mass_tolerance > 0 ? target_logits : at::Tensor());
  at::Tensor largest_negative = pass.largest.clone();
  comm_.AllReduceMax(largest_negative);
  const at::Tensor largest = at::maximum(largest_negative, target_logits);
  // The maxima need a message of their own: the sums are taken relative to them. What bounds the
  // mass by bin travels with the sums.
  at::Tensor sums = (pass.sum * (pass.largest - largest).exp()).unsqueeze(0);
  if (options_.mass_tolerance > 0) sums = at::cat({sums, pass.mass_by_bin});
  comm_.AllReduceSum(sums);
  const at::Tensor sum = sums[0].add_((target_logits - largest).exp());
  Loss loss;
  loss.log_sum_exp = largest + sum.log();
  loss.accuracy = (target_logits >= largest_negative).to(at::kDouble).mean().item<double>();
  if (options_.mass_tolerance > 0) loss.skip_from = SkipFrom(sums.slice(0, 1));
  return loss;
}

// The lowest bin from which on every sample stays within the tolerance; the mass is of all ranks.
int MarginHead::SkipFrom(const at::Tensor& mass_by_bin) const {
  // Of this bin and those after it, for the sample that has most there.
  const at::Tensor dropped = std::get<0>(mass_by_bin.flip(0).cumsum(0).flip(0).max(1)).contiguous();
  int from = kBoundBins;
  while (from > 0 && dropped.const_data_ptr<double>()[from - 1] <= options_.mass_tolerance) --from;
  return from;
}

// LARS' ratio for what the rows of all ranks accumulated.
double MarginHead::TrustRatioOfRows() {
  at::Tensor squares = shard_->AccumulatedSquares();
  comm_.AllReduceSum(squares);
  const double weight_norm = std::sqrt(squares[0].item<double>());
  const double gradient_norm = std::sqrt(squares[1].item<double>());
  if (!std::isfinite(gradient_norm)) {
    throw NonFiniteError(fmt::format("the norm of the head's gradient is {}", gradient_norm));
  }
  return TrustRatio(options_.shard.trust_coefficient, weight_norm, gradient_norm,
                    options_.shard.weight_decay);
}

HeadStepResult MarginHead::Run(const at::Tensor& embeddings, const at::Tensor& labels,
                               const std::vector<std::int64_t>& rows_per_rank, double weight,
                               const RowUpdate& update) {
  const at::NoGradGuard no_grad;
  const Batch batch = Gather(embeddings, labels, rows_per_rank);
  const auto samples = static_cast<std::int64_t>(batch.norms.size());

  const MarginState state_before = state_;
  at::Tensor z = shard_->TargetLogits(options_.margin.scale);
  comm_.AllReduceSum(z);
  const double* z_data = z.const_data_ptr<double>();
  const std::vector<TargetLogit> targets = TargetLogits(
      options_.margin, std::vector<double>(z_data, z_data + samples), batch.norms, &state_);
  std::vector<float> hard;
  const NegativeRule rule = Negatives(targets, &hard);
  const Loss loss = Softmax(targets, rule);
  if (!loss.log_sum_exp.isfinite().all().item<bool>()) state_ = state_before;
  CheckFinite({loss.log_sum_exp.const_data_ptr<double>(), static_cast<std::size_t>(samples)},
              "the softmax", rows_per_rank);

  // d loss / d: the targets' z, and the norms beyond z.
  const double share = weight / static_cast<double>(samples);
  const double* log_sum_exp = loss.log_sum_exp.const_data_ptr<double>();
  at::Tensor by_z = at::empty({samples}, at::kDouble);
  at::Tensor by_norm = at::empty({samples}, at::kDouble);
  at::Tensor probability = at::empty({samples}, at::kDouble);
  HeadStepResult result;
  for (std::int64_t b = 0; b < samples; ++b) {
    const TargetLogit& target = targets[b];
    const double p = std::exp(target.logit - log_sum_exp[b]);
    result.loss += (log_sum_exp[b] - target.logit + target.cost) / static_cast<double>(samples);
    by_z.mutable_data_ptr<double>()[b] = share * (p - 1) * target.by_z;
    by_norm.mutable_data_ptr<double>()[b] =
        share * ((p - 1) * target.by_norm + target.cost_by_norm);
    probability.mutable_data_ptr<double>()[b] = p;
  }
  result.accuracy = loss.accuracy;
  result.own_targets = batch.own_targets;

  const GradientPass pass = shard_->Gradients(options_.margin.scale, rule, loss.log_sum_exp, share,
                                              by_z, loss.skip_from, update);
  if (options_.mass_tolerance > 0) {
    at::Tensor sums = at::cat({pass.mass, at::full({1}, static_cast<double>(pass.skipped)),
                               at::full({1}, static_cast<double>(range_.size()))});
    comm_.AllReduceSum(sums);
    const at::Tensor dropped = 1 - probability - sums.slice(0, 0, samples);
    result.dropped_mass = std::max(0.0, dropped.max().item<double>());
    result.skipped_share = (sums[samples] / sums[samples + 1]).item<double>();
  }

  const at::Tensor own_dx = comm_.ReduceScatterRows(pass.dx, rows_per_rank);
  const at::Tensor own_by_norm =
      by_norm.slice(0, batch.first_own, batch.first_own + embeddings.size(0))
          .to(at::kFloat)
          .unsqueeze(1)
          .to(own_dx.device());
  const at::Tensor by_x =
      options_.margin.normalizes_embeddings() ? BackwardThroughUnitRows(batch.own, own_dx) : own_dx;
  result.embedding_gradients = by_x + batch.own.direction * own_by_norm;
  return result;
}

HeadStepResult MarginHead::Step(const at::Tensor& embeddings, const at::Tensor& labels,
                                const std::vector<std::int64_t>& rows_per_rank, double lr) {
  if (options_.shard.optimizer == HeadOptimizer::kLars) {
    HeadStepResult result = Accumulate(embeddings, labels, rows_per_rank, 1);
    Update(lr);
    return result;
  }
  HeadStepResult result =
      Run(embeddings, labels, rows_per_rank, 1, MakeRowUpdate(options_.shard, lr, state_.step));
  ++state_.step;
  return result;
}

HeadStepResult MarginHead::Accumulate(const at::Tensor& embeddings, const at::Tensor& labels,
                                      const std::vector<std::int64_t>& rows_per_rank,
                                      double weight) {
  RowUpdate update;
  update.kind = RowUpdate::Kind::kAccumulate;
  return Run(embeddings, labels, rows_per_rank, weight, update);
}

void MarginHead::DropAccumulated() { shard_->DropAccumulated(); }

void MarginHead::Update(double lr) {
  const bool lars = options_.shard.optimizer == HeadOptimizer::kLars;
  const double trust_ratio = lars ? TrustRatioOfRows() : 1;
  shard_->ApplyAccumulated(MakeRowUpdate(options_.shard, lr, state_.step, trust_ratio));
  ++state_.step;
}

}  // namespace fr
