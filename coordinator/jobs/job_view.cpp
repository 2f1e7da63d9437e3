#include "coordinator/jobs/job_view.h"

#include <algorithm>

#include "coordinator/jobs/demand.h"
#include "coordinator/jobs/job_state.h"

namespace fr {
namespace {

// As predicted, less what is done; once it trains, as measured, which is of its present workers.
std::optional<double> SecondsLeft(const JobRecord& record) {
  const Progress& progress = record.progress();
  const int workers = NumWorkers(record.launch());
  if (record.state() == JobState::RUNNING && progress.has_seconds_left() && workers > 0) {
    return progress.seconds_left() * workers / record.spec().resources().workers();
  }
  if (!record.demand().has_job_seconds()) return std::nullopt;
  const double done = progress.total_steps() > 0 ? static_cast<double>(progress.step()) /
                                                       static_cast<double>(progress.total_steps())
                                                 : 0;
  return static_cast<double>(record.demand().job_seconds()) * std::clamp(1 - done, 0.0, 1.0);
}

}  // namespace

bool TakesGpus(const Resources& resources, bool cluster_has_gpus) {
  return resources.device() == Resources::gpu ||
         (resources.device() == Resources::auto_ && cluster_has_gpus);
}

int NumWorkers(const LaunchRecord& launch) {
  int workers = 0;
  for (const NodeSlots& slots : launch.slots()) workers += slots.slots();
  return workers;
}

JobView ViewOf(const JobSpec& spec, const Demand& demand, bool cluster_has_gpus) {
  const Resources& resources = spec.resources();
  JobView view;
  view.priority = spec.priority();
  view.workers = resources.workers();
  view.min_workers = MinWorkers(resources);
  view.cpus_per_worker = resources.threads_per_worker();
  view.takes_gpus = TakesGpus(resources, cluster_has_gpus);
  view.labels.assign(resources.labels().begin(), resources.labels().end());
  view.worker_bytes.assign(demand.worker_bytes().begin(), demand.worker_bytes().end());
  view.preemptible = resources.preemptible();
  return view;
}

JobView ViewOf(const Job& job, bool cluster_has_gpus, std::int64_t steady_ms) {
  const JobRecord& record = job.record;
  JobView view = ViewOf(record.spec(), record.demand(), cluster_has_gpus);
  view.number = record.number();
  view.owner = record.owner();
  view.waiting_since_ms = record.waiting_since_ms();
  view.not_before_ms = record.not_before_ms();
  view.seconds_left = SecondsLeft(record);
  view.placement.assign(record.launch().slots().begin(), record.launch().slots().end());
  view.started_ms = record.attempt_started_ms();
  view.unsaved_seconds = static_cast<double>(steady_ms - job.last_checkpoint_ms) / 1000;
  view.preemptions = record.preemptions();
  view.resizing = record.resizing();
  view.leaving = record.has_launch() && (record.has_yield() || !HoldsSlots(record.state()));
  return view;
}

}  // namespace fr
