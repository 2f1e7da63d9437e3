#include "coordinator/jobs/demand.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "common/networks/network.h"
#include "common/plan/memory_plan.h"

namespace fr {
namespace {

// A prediction costs a millisecond; of a job that may have anything between one and a thousand
// workers every so many numbers are asked, and those between count as the larger neighbour.
constexpr int kMaxPredictions = 32;

std::int64_t PredictedBytes(const JobSpec& spec, const DataFacts& facts, const Graph& graph,
                            int workers) {
  return SumOf(PlanMemory(spec, graph, ShareOfWorker(spec, facts, workers)));
}

void PredictMemory(const JobSpec& spec, const DataFacts& facts, Demand* demand) {
  const Graph graph = MakeNetwork(OptionsOf(spec.model()));
  const int most = spec.resources().workers();
  const int least = MinWorkers(spec.resources());
  const int stride = (most - least) / kMaxPredictions + 1;
  std::int64_t below = PredictedBytes(spec, facts, graph, least);
  demand->add_worker_bytes(below);
  for (int known = least; known < most;) {
    const int next = std::min(known + stride, most);
    const std::int64_t bytes = PredictedBytes(spec, facts, graph, next);
    for (int workers = known + 1; workers < next; ++workers) {
      demand->add_worker_bytes(std::max(below, bytes));
    }
    demand->add_worker_bytes(bytes);
    known = next;
    below = bytes;
  }
}

}  // namespace

int MinWorkers(const Resources& resources) {
  return resources.has_min_workers() ? std::min(resources.min_workers(), resources.workers())
                                     : resources.workers();
}

Demand PredictDemand(const JobSpec& spec, const DataFacts& facts) {
  const Resources& resources = spec.resources();
  Demand demand;
  if (facts.identities) demand.set_identities(*facts.identities);
  if (facts.images) demand.set_images(*facts.images);
  if (resources.has_memory_gib()) {
    const auto bytes = static_cast<std::int64_t>(std::ceil(std::ldexp(resources.memory_gib(), 30)));
    const int sizes = resources.workers() - MinWorkers(resources) + 1;
    demand.mutable_worker_bytes()->Resize(sizes, bytes);
  } else {
    PredictMemory(spec, facts, &demand);
  }
  if (resources.has_expected_time_ms()) {
    demand.set_job_seconds(resources.expected_time_ms() / 1000);
  } else if (const auto seconds = PlanJob(spec, facts, MachineModel()).job_seconds) {
    demand.set_job_seconds(static_cast<std::int64_t>(*seconds));
  }
  return demand;
}

std::int64_t WorkerBytes(const JobSpec& spec, const Demand& demand, int workers) {
  const int index = workers - MinWorkers(spec.resources());
  if (index < 0 || index >= demand.worker_bytes_size()) return 0;
  return demand.worker_bytes(index);
}

std::string OwnerOf(const std::string& submitter) {
  const std::string owner = submitter.substr(0, submitter.find('@'));
  return owner.empty() ? "unknown" : owner;
}

}  // namespace fr
