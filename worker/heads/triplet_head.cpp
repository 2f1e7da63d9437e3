#include "worker/heads/triplet_head.h"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>

#include <ATen/Parallel.h>

#include "common/base/error.h"
#include "common/base/random.h"
#include "worker/comm/communicator.h"
#include "worker/gpu/gpu.h"
#include "worker/gpu/gpu_kernels.h"
#include "worker/heads/global_batch.h"
#include "worker/heads/unit_rows.h"

namespace fr {
namespace {

// Anchors whose distances to the batch exist at a time: enough for full speed of the products.
constexpr std::int64_t kAnchorTile = 64;

// [6] float64, in the order of TripletSums' fields.
TripletSums SumsOf(const at::Tensor& fields) {
  const double* value = fields.const_data_ptr<double>();
  return {value[0], value[1], value[2], value[3], value[4], value[5]};
}

TripletSums SumOverRanks(const TripletSums& own, Communicator& comm) {
  at::Tensor sums = torch::tensor(
      {own.loss, own.chosen, own.active, own.candidates, own.anchors, own.nearest_own},
      at::kDouble);
  comm.AllReduceSum(sums);
  return SumsOf(sums);
}

double Ratio(double part, double whole) { return whole > 0 ? part / whole : 0; }

// Row by row. `distances`, `coefficients` [n, B]; the anchors' places begin at `first`.
TripletSums MineTileOnGpu(const Gpu& gpu, const TripletRule& rule, std::int64_t first,
                          const at::Tensor& distances, const at::Tensor& labels,
                          at::Tensor& coefficients) {
  at::Tensor sums = at::empty({distances.size(0), 6}, distances.options().dtype(at::kDouble));
  GpuMining work;
  work.mining = static_cast<int>(rule.mining);
  work.margin = rule.margin;
  work.key = rule.key;
  work.anchors = distances.size(0);
  work.first = first;
  work.batch = distances.size(1);
  work.distances = distances.const_data_ptr<float>();
  work.labels = labels.const_data_ptr<std::int64_t>();
  work.coefficients = coefficients.mutable_data_ptr<float>();
  work.sums = sums.mutable_data_ptr<double>();
  gpu.kernels().mine(work, gpu.stream());
  return SumsOf(sums.sum(0).cpu());
}

TripletSums MineTile(const TripletRule& rule, std::int64_t first, const at::Tensor& distances,
                     const at::Tensor& labels, at::Tensor& coefficients) {
  if (const Gpu* gpu = GpuOf(distances)) {
    return MineTileOnGpu(*gpu, rule, first, distances, labels, coefficients);
  }
  const std::int64_t anchors = distances.size(0);
  const auto batch = static_cast<std::size_t>(distances.size(1));
  const float* distance = distances.const_data_ptr<float>();
  const std::int64_t* label = labels.const_data_ptr<std::int64_t>();
  auto* coefficient = coefficients.mutable_data_ptr<float>();
  std::vector<TripletSums> sums(anchors);
  at::parallel_for(0, anchors, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto row = static_cast<std::size_t>(i) * batch;
      sums[i] = MineAnchor(rule, {first + i, {distance + row, batch}, {label, batch}},
                           {coefficient + row, batch});
    }
  });
  return std::accumulate(sums.begin(), sums.end(), TripletSums{},
                         [](TripletSums sum, const TripletSums& one) { return sum += one; });
}

}  // namespace

TripletHead::TripletHead(const TripletHeadOptions& options, Communicator& comm)
    : options_(options), comm_(comm) {
  if (!(options.margin >= 0 && options.margin <= 4)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("triplet head: margin {} is none of squared distances between unit "
                            "vectors: it must be in [0, 4]",
                            options.margin));
  }
}

at::Tensor TripletHead::StateTensor() const {
  return torch::tensor({static_cast<double>(step_)}, at::kDouble);
}

void TripletHead::SetState(const at::Tensor& state) {
  step_ = static_cast<std::int64_t>(state.const_data_ptr<double>()[0]);
}

// Adds to `by_direction` [B, D] half the derivative of the own anchors' summed cost by the
// directions: with unit vectors the cost of a triplet is 2 (a.n - a.p) + margin.
TripletSums TripletHead::MineOwnAnchors(const GlobalBatch& batch, std::int64_t count,
                                        at::Tensor* by_direction) const {
  TripletRule rule{options_.mining, options_.margin,
                   MixKeys(options_.seed, static_cast<std::uint64_t>(step_))};
  const at::Tensor transposed = batch.x.t();
  const at::Tensor labels = batch.labels.to(batch.x.device());
  TripletSums sums;
  for (std::int64_t done = 0; done < count; done += kAnchorTile) {
    const std::int64_t first = batch.first_own + done;
    const std::int64_t size = std::min(kAnchorTile, count - done);
    const at::Tensor anchors = batch.x.slice(0, first, first + size);
    const at::Tensor distances = at::mm(anchors, transposed).mul_(-2).add_(2).clamp_min_(0);
    at::Tensor coefficients = at::zeros_like(distances);
    sums += MineTile(rule, first, distances, labels, coefficients);
    by_direction->addmm_(coefficients.t(), anchors);
    by_direction->slice(0, first, first + size).addmm_(coefficients, batch.x);
  }
  return sums;
}

HeadStepResult TripletHead::Run(const at::Tensor& embeddings, const at::Tensor& labels,
                                const std::vector<std::int64_t>& rows_per_rank, double weight) {
  const at::NoGradGuard no_grad;
  const UnitRows own = UnitRowsOf(embeddings);
  const GlobalBatch batch = GatherBatch({own.direction, own.norms, labels}, rows_per_rank, comm_);
  at::Tensor by_direction = at::zeros_like(batch.x);
  const TripletSums sums =
      SumOverRanks(MineOwnAnchors(batch, embeddings.size(0), &by_direction), comm_);

  HeadStepResult result;
  result.loss = Ratio(sums.loss, sums.chosen);
  result.accuracy = Ratio(sums.nearest_own, sums.anchors);
  result.active_triplets = static_cast<std::int64_t>(sums.active);
  result.active_share = Ratio(sums.active, sums.candidates);
  const at::Tensor by_own =
      comm_.ReduceScatterRows(by_direction, rows_per_rank).mul_(Ratio(2 * weight, sums.chosen));
  result.embedding_gradients = BackwardThroughUnitRows(own, by_own);
  return result;
}

HeadStepResult TripletHead::Step(const at::Tensor& embeddings, const at::Tensor& labels,
                                 const std::vector<std::int64_t>& rows_per_rank, double lr) {
  HeadStepResult result = Run(embeddings, labels, rows_per_rank, 1);
  Update(lr);
  return result;
}

HeadStepResult TripletHead::Accumulate(const at::Tensor& embeddings, const at::Tensor& labels,
                                       const std::vector<std::int64_t>& rows_per_rank,
                                       double weight) {
  return Run(embeddings, labels, rows_per_rank, weight);
}

void TripletHead::Update(double /*lr*/) { ++step_; }

}  // namespace fr
