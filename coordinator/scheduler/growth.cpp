#include "coordinator/scheduler/growth.h"

#include <algorithm>
#include <set>

#include "coordinator/scheduler/placement.h"
#include "coordinator/scheduler/preemption.h"

namespace fr::scheduling {
namespace {

// Restarts beyond that can wait for the next round.
constexpr std::size_t kMostGrowths = 16;

bool PaysOff(const Job& job, int workers) {
  const auto now = SecondsLeft(job, job.running);
  return !now || *now - *SecondsLeft(job, workers) >= 2 * kRestartSeconds;
}

// The kinds of jobs that could not start in this round.
std::set<const Kind*> WaitingKinds(const Queue& queue) {
  std::set<const Kind*> kinds;
  for (const Job& job : queue.waiting()) {
    if (!job.kind->free.failures().empty() || !job.kind->spare.failures().empty()) {
      kinds.insert(job.kind);
    }
  }
  return kinds;
}

// Whether one of them could, with these nodes.
bool Wanted(const std::set<const Kind*>& kinds, const Free& free) {
  const auto fits = [&free](const Kind& kind, const auto& failures) {
    return std::any_of(failures.begin(), failures.end(), [&](const auto& failure) {
      const auto& [workers, memory] = failure;
      return Capacity(kind.nodes->open, free, {kind.cpus, memory, kind.gpu}, workers) >= workers;
    });
  };
  return std::any_of(kinds.begin(), kinds.end(), [&](const Kind* kind) {
    return fits(*kind, kind->free.failures()) || fits(*kind, kind->spare.failures());
  });
}

// Those that are stopping to be resized want to be as large as they can.
void SetAsideForResizing(const Cluster& cluster, const Queue& queue, Free* spare) {
  for (const Job& job : queue.running()) {
    if (!job.leaving || !job.resizing) continue;
    Release(job, spare);
    const int workers = MostWorkers(job, job.workers, *spare);
    if (workers > 0) Take(job, workers, Place(job, workers, cluster, *spare), spare);
  }
}

}  // namespace

std::vector<Growth> ChooseToGrow(const SchedulerSpec& policy, const Cluster& cluster, Free free,
                                 Free spare, Queue* queue) {
  std::vector<Job*> candidates;
  for (Job& job : queue->running()) {
    // What the limit leaves is for its owner's other jobs, which could also take its place.
    if (job.user->limited) continue;
    const int limit = std::min(job.workers, Allowance(job));
    if (job.elastic() && job.running < limit && MayBeAsked(job, *queue, policy)) {
      candidates.push_back(&job);
    }
  }
  std::vector<Growth> growths;
  const bool any_free = std::any_of(spare.begin(), spare.end(),
                                    [](const Amounts& amounts) { return amounts.slots > 0; });
  if (candidates.empty() || !any_free) return growths;
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Job* a, const Job* b) { return a->rank > b->rank; });
  SetAsideForResizing(cluster, *queue, &spare);
  const std::set<const Kind*> kinds = WaitingKinds(*queue);
  for (Job* job : candidates) {
    if (growths.size() == kMostGrowths) break;
    Free with_own = spare;
    Release(*job, &with_own);
    const int workers = MostWorkers(*job, std::min(job->workers, Allowance(*job)), with_own);
    if (workers <= job->running || !PaysOff(*job, workers)) continue;
    // In the moment in which it has stopped, nobody else must be able to take its place.
    Release(*job, &free);
    const bool wanted = Wanted(kinds, free);
    TakeAgain(*job, &free);
    if (wanted) continue;
    Take(*job, workers, Place(*job, workers, cluster, with_own), &with_own);
    spare = std::move(with_own);
    growths.push_back({job, workers});
  }
  return growths;
}

}  // namespace fr::scheduling
