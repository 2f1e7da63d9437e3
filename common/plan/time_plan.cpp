#include "common/plan/time_plan.h"

#include <algorithm>
#include <cmath>

#include "common/networks/costs.h"
#include "common/networks/preprocessing.h"
#include "common/plan/memory_parts.h"

namespace fr {
namespace {

constexpr double kGiga = 1e9;

// A backward pass has two products for each of the forward pass: for inputs and for weights.
constexpr double kBackwardProducts = 2;
// How often a value of the network travels to or from memory, forwards and backwards together.
// Fitted, with the rates in proto/machine.proto, to the table in docs/backbones.md.
constexpr double kTransfersPerValue = 4;
// Logits twice, and two gradients; rows are read twice, and read and written once more with their
// momentum.
constexpr double kHeadProducts = 4;
constexpr double kHeadTransfers = 5;
// Weights and momentum are read and written, gradients read and set to zero.
constexpr double kUpdateTransfers = 6;

std::int64_t ElementBytes(Precision precision) { return precision == Precision::bf16 ? 2 : 4; }

std::int64_t Share(std::int64_t bytes, int workers, int rounds) {
  return bytes * rounds * (workers - 1) / workers;
}
std::int64_t AllReduce(std::int64_t bytes, int workers) { return Share(bytes, workers, 2); }

// Rows of a head's shard that a step computes with.
double RowsInAStep(const JobSpec& spec, const WorkerShare& share) {
  const double sampled = static_cast<double>(share.identities) * spec.loss().sample_rate() +
                         static_cast<double>(share.total_batch) / spec.resources().workers();
  return std::min(static_cast<double>(share.identities), sampled) *
         static_cast<double>(spec.loss().sub_centers());
}

struct NormTraffic {
  std::int64_t bytes = 0;
  std::int64_t messages = 0;
};

// Two sums forwards, one backwards, in float64.
NormTraffic GlobalNorms(const JobSpec& spec, const Graph& graph) {
  NormTraffic traffic;
  if (spec.model().batch_norm() != BatchNormMode::global) return traffic;
  for (const Node& node : graph.nodes()) {
    if (node.op != Op::kBatchNorm) continue;
    traffic.bytes += (4 * node.shape[0] + 1) * kDouble;
    traffic.messages += 3;
  }
  return traffic;
}

}  // namespace

TrafficPlan PlanTraffic(const JobSpec& spec, const Graph& graph, const WorkerShare& share) {
  TrafficPlan traffic;
  const int workers = spec.resources().workers();
  if (workers == 1) return traffic;
  const std::int64_t parts = spec.train().accumulate();
  const std::int64_t gradient_bytes =
      CostsOf(graph).trained_parameters * ElementBytes(spec.communication().gradient_precision());
  traffic.gradients = AllReduce(gradient_bytes, workers);
  traffic.gradient_messages = std::max<std::int64_t>(
      1, static_cast<std::int64_t>(
             std::ceil(static_cast<double>(gradient_bytes) /
                       (spec.communication().bucket_mb() * static_cast<double>(kMiB)))));
  const std::int64_t all_rows = share.total_batch * parts;
  const std::int64_t row_bytes = spec.model().embedding_size() * kFloat;
  traffic.embeddings = Share(all_rows * (row_bytes + 2 * kDouble), workers, 1);
  traffic.embedding_gradients = Share(all_rows * row_bytes, workers, 1);
  traffic.other_messages = 2 * parts;
  if (HasHead(spec)) {
    const std::int64_t bins = spec.loss().mass_tolerance() > 0 ? 97 : 0;
    traffic.softmax = AllReduce(all_rows * (3 + bins) * kDouble, workers);
    traffic.other_messages += (bins > 0 ? 5 : 3) * parts;
  }
  const NormTraffic norms = GlobalNorms(spec, graph);
  traffic.batch_norms = AllReduce(norms.bytes * parts, workers);
  traffic.other_messages += norms.messages * parts;
  return traffic;
}

WorkPlan PlanWork(const JobSpec& spec, const Graph& graph, const WorkerShare& share) {
  WorkPlan work;
  const double passes = 1 + kBackwardProducts + (spec.model().recompute() ? 1 : 0);
  work.backbone = passes * static_cast<double>(CostsOf(graph).multiply_adds) *
                  static_cast<double>(share.images);
  if (HasHead(spec)) {
    work.head = kHeadProducts * RowsInAStep(spec, share) *
                static_cast<double>(share.total_batch * spec.train().accumulate()) *
                spec.model().embedding_size();
  }
  return work;
}

TimePlan PlanTime(const JobSpec& spec, const Graph& graph, const WorkerShare& share,
                  const MachineModel& machine) {
  const Costs costs = CostsOf(graph);
  const WorkPlan work = PlanWork(spec, graph, share);
  const TrafficPlan traffic = PlanTraffic(spec, graph, share);
  const int workers = spec.resources().workers();
  const double units =
      machine.rates_of() == MachineModel::thread ? spec.resources().threads_per_worker() : 1;
  const double bandwidth = machine.memory_gb_per_s() * kGiga * units;
  const bool bf16 = spec.model().precision() == Precision::bf16;
  const double backbone_rate =
      (bf16 ? machine.backbone_bf16() : machine.backbone_fp32()) * kGiga * units;
  TimePlan time;
  const double again = spec.model().recompute() ? 1 : 0;
  const double backbone =
      work.backbone / backbone_rate +
      (3 + again) / 3 * kTransfersPerValue * static_cast<double>(costs.activations * share.images) *
          static_cast<double>(ElementBytes(spec.model().precision())) / bandwidth;
  time.forward = backbone * (1 + again) / (3 + again);
  time.backward = backbone - time.forward;
  if (HasHead(spec)) {
    const double rate =
        (spec.loss().precision() == Precision::bf16 ? machine.head_bf16() : machine.head_fp32()) *
        kGiga * units;
    time.head = work.head / rate + kHeadTransfers * RowsInAStep(spec, share) *
                                       spec.train().accumulate() * spec.model().embedding_size() *
                                       kFloat / bandwidth;
  }
  time.update =
      kUpdateTransfers * static_cast<double>(costs.trained_parameters * kFloat) / bandwidth;
  const double network = machine.network_gb_per_s() * kGiga;
  const double latency = machine.latency_us() * 1e-6 * (workers > 1 ? 2 * (workers - 1) : 0);
  time.gradients = static_cast<double>(traffic.gradients) / network +
                   latency * static_cast<double>(traffic.gradient_messages);
  if (spec.communication().overlap() && traffic.gradient_messages > 0) {
    // The last message leaves when the backward pass is over; with train.accumulate only the last
    // part's pass hides anything.
    const double last = time.gradients / static_cast<double>(traffic.gradient_messages);
    time.hidden = std::min(time.gradients - last, time.backward / spec.train().accumulate());
  }
  time.messages = static_cast<double>(traffic.other()) / network +
                  latency * static_cast<double>(traffic.other_messages);
  const double computed = time.forward + time.head + time.backward + time.update + time.gradients -
                          time.hidden + time.messages;
  const double decoded = static_cast<double>(share.images) /
                         (machine.decoded_images_per_s() * spec.data().loader_threads());
  time.loader = std::max(0.0, decoded - computed);
  time.step = computed + time.loader;
  return time;
}

}  // namespace fr
