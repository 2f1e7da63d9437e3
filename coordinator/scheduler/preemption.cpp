#include "coordinator/scheduler/preemption.h"

#include <algorithm>
#include <tuple>

#include "coordinator/scheduler/placement.h"
#include "coordinator/scheduler/tally.h"

namespace fr::scheduling {
namespace {

// So often at most it is tried out in a round where jobs would go if some were smaller.
constexpr int kTries = 32;

bool ByNumber(const Job* a, const Job* b) { return a->view->number < b->view->number; }

// Lowest rank first; among equals the youngest.
bool ByRank(const Job* a, const Job* b) {
  return std::tuple(a->rank, -a->view->number) < std::tuple(b->rank, -b->view->number);
}

// Whether the job has workers to give up for `workers` of `first`, and its owner may start it
// again.
bool CanShrink(const Job& running, const Job& first, int workers) {
  const bool limited = running.user == first.user && running.user->max_workers > 0;
  return running.elastic() && running.running > running.min_workers &&
         Allowance(running) - (limited ? workers : 0) >= running.min_workers;
}

// Whether `first` and, after it, the least of each of `chosen` fit once these have stopped.
bool AllFit(const Job& first, int workers, const Jobs& chosen, const Cluster& cluster, Free free) {
  const auto place = [&](const Job& job, int wanted) {
    const Placement placement = wanted > 0 ? Place(job, wanted, cluster, free) : Placement();
    Take(job, wanted, placement, &free);
    return !placement.empty();
  };
  for (const Job* job : chosen) Release(*job, &free);
  if (!place(first, workers)) return false;
  return std::all_of(chosen.rbegin(), chosen.rend(), [&](const Job* job) {
    return place(*job, FewestWorkers(*job, job->running, job->kind->nodes->open, free));
  });
}

// A bound: what jobs give up, and what is free, is not less than what the others get of it.
std::int64_t SlotsGiven(const Jobs& jobs) {
  std::int64_t slots = 0;
  for (const Job* job : jobs) slots += job->running - job->min_workers;
  return slots;
}

std::int64_t FreeSlots(const Free& free) {
  std::int64_t slots = 0;
  for (const Amounts& amounts : free) slots += std::max<std::int64_t>(amounts.slots, 0);
  return slots;
}

double Cost(const Job& job) {
  return job.running * (std::max(job.view->unsaved_seconds, 0.0) + kRestartSeconds) *
         (1 + std::max(job.view->preemptions, 0));
}

struct Choice {
  Jobs victims;
  int priority = 0;  // the highest among them
  double cost = 0;
};

// Takes candidates in their order until there is room, then gives back whoever is not needed, the
// most valuable first.
std::optional<Choice> Choose(const Jobs& candidates, Tally tally) {
  Jobs taken;
  for (Job* job : candidates) {
    if (tally.Fits()) break;
    tally.Release(*job);
    taken.push_back(job);
  }
  if (!tally.Fits()) return std::nullopt;
  std::sort(taken.begin(), taken.end(), [](const Job* a, const Job* b) {
    return std::tuple(-a->view->priority, -Cost(*a), a->view->number) <
           std::tuple(-b->view->priority, -Cost(*b), b->view->number);
  });
  Choice choice;
  for (Job* job : taken) {
    tally.TakeAgain(*job);
    if (tally.Fits()) continue;
    tally.Release(*job);
    choice.victims.push_back(job);
    choice.cost += Cost(*job);
    choice.priority = std::max(choice.priority, job->view->priority);
  }
  return choice;
}

}  // namespace

bool MayBeAsked(const Job& running, const Queue& queue, const SchedulerSpec& policy) {
  return !running.leaving && queue.now_ms() - running.view->started_ms >= policy.min_run_time_ms();
}

std::optional<Jobs> ChooseToShrink(const Job& first, int workers, const SchedulerSpec& policy,
                                   const Cluster& cluster, const Free& coming, Queue* queue) {
  Tally tally(first, workers, coming);
  Jobs candidates;
  for (Job& job : queue->running()) {
    if (CanShrink(job, first, workers) && job.view->preemptible && job.rank < first.rank &&
        MayBeAsked(job, *queue, policy) && tally.Shares(job)) {
      candidates.push_back(&job);
    }
  }
  std::sort(candidates.begin(), candidates.end(), ByRank);
  int tries = kTries;
  const auto enough = [&](const Jobs& jobs) {
    return SlotsGiven(jobs) + FreeSlots(coming) >= workers && tries-- > 0 &&
           AllFit(first, workers, jobs, cluster, coming);
  };
  Jobs chosen;
  bool done = false;
  for (auto next = candidates.begin(); !done && next != candidates.end(); ++next) {
    tally.Release(**next);
    chosen.push_back(*next);
    done = tally.Fits() && enough(chosen);
  }
  if (!done) return std::nullopt;
  for (std::size_t i = chosen.size(); i-- > 0;) {
    Jobs fewer = chosen;
    fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
    if (enough(fewer)) chosen = std::move(fewer);
  }
  std::sort(chosen.begin(), chosen.end(), ByNumber);
  return chosen;
}

std::optional<Jobs> ChooseVictims(const Job& first, int workers, const SchedulerSpec& policy,
                                  const Free& coming, Queue* queue) {
  const Tally tally(first, workers, coming);
  Jobs candidates;
  for (Job& job : queue->running()) {
    // It must come before them in the queue as well: else they would take their slots back.
    if (job.view->preemptible && job.view->priority < first.view->priority &&
        first.view->priority >= job.view->priority + policy.preemption_gap() &&
        job.rank < first.rank && MayBeAsked(job, *queue, policy) && tally.Shares(job)) {
      candidates.push_back(&job);
    }
  }
  // Neither order alone is good: by cost, many small ones go where one large one would be cheaper;
  // by cost for each worker, a large one goes where a small one would do.
  std::sort(candidates.begin(), candidates.end(), [](const Job* a, const Job* b) {
    return std::tuple(a->view->priority, Cost(*a), -a->view->number) <
           std::tuple(b->view->priority, Cost(*b), -b->view->number);
  });
  std::optional<Choice> best = Choose(candidates, tally);
  if (!best) return std::nullopt;
  const auto each = [](const Job& job) { return Cost(job) / std::max(job.running, 1); };
  std::sort(candidates.begin(), candidates.end(), [&each](const Job* a, const Job* b) {
    return std::tuple(a->view->priority, each(*a), -a->view->number) <
           std::tuple(b->view->priority, each(*b), -b->view->number);
  });
  std::optional<Choice> other = Choose(candidates, tally);
  if (other && std::tuple(other->priority, other->cost) < std::tuple(best->priority, best->cost)) {
    best = std::move(other);
  }
  std::sort(best->victims.begin(), best->victims.end(), ByNumber);
  return best->victims;
}

}  // namespace fr::scheduling
