#include "coordinator/scheduler/reservation.h"

#include <algorithm>
#include <tuple>

#include "coordinator/scheduler/tally.h"

namespace fr::scheduling {
namespace {

std::size_t Index(int i) { return static_cast<std::size_t>(i); }

struct End {
  double seconds = 0;
  const Job* job = nullptr;
};

// The ends that are known, soonest first.
std::vector<End> KnownEnds(const Queue& queue) {
  std::vector<End> ends;
  for (const Job& job : queue.running()) {
    if (job.leaving) continue;
    if (const auto left = SecondsLeft(job, job.running)) ends.push_back({*left, &job});
  }
  std::stable_sort(ends.begin(), ends.end(),
                   [](const End& a, const End& b) { return a.seconds < b.seconds; });
  return ends;
}

// Takes from `free` what `workers` on `node` will need once it is there: never below nothing, for
// what is missing will come from jobs that end, not from what is free now.
void SetAside(std::int64_t workers, const Need& need, Amounts* free) {
  Amounts left = *free;
  Take(workers, need, &left);
  *free = {std::max<std::int64_t>(left.slots, 0), std::max<std::int64_t>(left.cpus, 0),
           std::max<std::int64_t>(left.memory, 0), std::max<std::int64_t>(left.gpus, 0)};
}

// Without a time: the nodes where most is free already, until the job would fit there if they were
// empty. What is free there only becomes more.
void SetAsideFreest(const Job& job, int workers, const Cluster& cluster, Free* free) {
  struct Candidate {
    int node;
    std::int64_t now;
    std::int64_t empty;
  };
  const Need need = NeedOf(job, workers);
  std::vector<Candidate> candidates;
  for (const int node : job.kind->nodes->open) {
    candidates.push_back({node, WorkersThatFit((*free)[Index(node)], need),
                          WorkersThatFit(cluster.total()[Index(node)], need)});
  }
  std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return std::tuple(-a.now, -a.empty, a.node) < std::tuple(-b.now, -b.empty, b.node);
  });
  std::int64_t left = workers;
  for (const Candidate& candidate : candidates) {
    if (left <= 0) break;
    SetAside(std::min(candidate.empty, left), need, &(*free)[Index(candidate.node)]);
    left -= candidate.empty;
  }
}

// All that the job could ever use.
void SetAsideAll(const Job& job, int workers, const Cluster& cluster, Free* free) {
  const Need need = NeedOf(job, workers);
  for (const int node : job.kind->nodes->open) {
    const std::int64_t most = WorkersThatFit(cluster.total()[Index(node)], need);
    SetAside(std::min<std::int64_t>(most, workers), need, &(*free)[Index(node)]);
  }
}

// What is left for those that stop to be resized: they go on with their least.
void SetAsideForResizing(const Queue& queue, const Cluster& cluster, Free* beside) {
  for (const Job& job : queue.running()) {
    if (job.leaving && job.resizing) TakeLeast(job, cluster, beside);
  }
}

}  // namespace

Reservation Reserve(const Job& first, int workers, const Queue& queue, const Cluster& cluster,
                    const Free& free, const Free& coming) {
  Reservation reservation;
  reservation.first = &first;
  reservation.workers = workers;
  Tally tally(first, workers, coming);
  const bool room_is_made = tally.Fits();
  if (room_is_made) {
    reservation.start_ms = queue.now_ms();
  } else {
    for (const End& end : KnownEnds(queue)) {
      tally.Release(*end.job);
      if (!tally.Fits()) continue;
      reservation.start_ms = queue.now_ms() + static_cast<std::int64_t>(end.seconds * 1000);
      break;
    }
  }
  reservation.trusted = room_is_made || queue.now_ms() - queue.FirstSince(first) < kPatienceMs;
  if (!reservation.trusted) {
    reservation.beside = free;
    SetAsideAll(first, workers, cluster, &reservation.beside);
  } else if (reservation.start_ms) {
    reservation.beside = tally.free();
    Take(first, workers, Place(first, workers, cluster, tally.free()), &reservation.beside);
    SetAsideForResizing(queue, cluster, &reservation.beside);
  } else {
    reservation.beside = free;
    SetAsideFreest(first, workers, cluster, &reservation.beside);
  }
  return reservation;
}

}  // namespace fr::scheduling
