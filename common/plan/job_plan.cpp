#include "common/plan/job_plan.h"

#include <algorithm>

#include "common/config/job_config.h"
#include "common/networks/network.h"
#include "common/plan/gpu_memory.h"
#include "common/plan/memory_parts.h"

namespace fr {
namespace {

// Equal shares: what workers will offer is not known here.
ShardPlan EvenShards(std::int64_t identities, std::int64_t row_bytes, int workers) {
  return PlanShards(
      identities, row_bytes,
      std::vector<std::int64_t>(static_cast<std::size_t>(workers), identities * row_bytes));
}

std::int64_t LargestShard(const ShardPlan& plan) {
  std::int64_t largest = 0;
  for (const IdentityRange& range : plan.ranges) largest = std::max(largest, range.size());
  return largest;
}

void PlanSteps(const JobSpec& spec, const DataFacts& facts, JobPlan& plan) {
  const TrainSpec& train = spec.train();
  if (facts.images) {
    plan.steps_per_epoch = *facts.images / plan.total_batch;
    plan.steps = *plan.steps_per_epoch * train.epochs();
  }
  if (train.has_max_steps() && (!plan.steps || train.max_steps() < *plan.steps)) {
    // Without the number of images: at most.
    plan.steps = train.max_steps();
    plan.cut_by_max_steps = true;
  }
}

std::int64_t RowBytes(const JobSpec& spec) {
  return (1 + StateCopies(spec.optimizer().type())) * std::int64_t{4} *
         spec.model().embedding_size() * spec.loss().sub_centers();
}

}  // namespace

WorkerShare ShareOfWorker(const JobSpec& spec, const DataFacts& facts, int workers) {
  WorkerShare share;
  const std::int64_t parts = spec.train().accumulate();
  share.total_batch = TotalBatchSize(spec, workers) / parts;
  share.images_at_once = (share.total_batch + workers - 1) / workers;
  share.images = share.images_at_once * parts;
  if (HasHead(spec) && facts.identities) {
    share.identities = LargestShard(EvenShards(*facts.identities, RowBytes(spec), workers));
  }
  return share;
}

JobPlan PlanJob(const JobSpec& spec, const DataFacts& facts, const MachineModel& machine) {
  JobPlan plan;
  plan.workers = spec.resources().workers();
  plan.total_batch = TotalBatchSize(spec, plan.workers);
  plan.has_head = HasHead(spec);
  PlanSteps(spec, facts, plan);
  plan.share = ShareOfWorker(spec, facts, plan.workers);
  plan.head_row_bytes = RowBytes(spec);
  if (plan.has_head && facts.identities) {
    plan.shards = EvenShards(*facts.identities, plan.head_row_bytes, plan.workers);
  }

  const Graph graph = MakeNetwork(OptionsOf(spec.model()));
  plan.memory = PlanMemory(spec, graph, plan.share);
  if (spec.resources().device() == Resources::gpu) {
    plan.gpu_memory = PlanGpuMemory(spec, graph, plan.share);
  }
  plan.traffic = PlanTraffic(spec, graph, plan.share);
  plan.work = PlanWork(spec, graph, plan.share);
  plan.time = PlanTime(spec, graph, plan.share, machine);
  if (plan.steps_per_epoch) {
    plan.epoch_seconds = static_cast<double>(*plan.steps_per_epoch) * plan.time.step;
  }
  if (plan.steps) plan.job_seconds = static_cast<double>(*plan.steps) * plan.time.step;
  return plan;
}

}  // namespace fr
