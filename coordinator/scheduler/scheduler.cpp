#include "coordinator/scheduler/scheduler.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "coordinator/scheduler/cluster.h"
#include "coordinator/scheduler/growth.h"
#include "coordinator/scheduler/placement.h"
#include "coordinator/scheduler/preemption.h"
#include "coordinator/scheduler/queue.h"
#include "coordinator/scheduler/reasons.h"
#include "coordinator/scheduler/reservation.h"

namespace fr {
namespace scheduling {
namespace {

// Whether the job fits on `nodes` while nobody else is there. `known`: what has been found out of
// that; it stays true for the whole round.
bool FitsAlone(const Job& job, const std::vector<int>& nodes, const Cluster& cluster,
               Frontier* known) {
  const std::int64_t memory = NeedOf(job, job.min_workers).memory;
  if (known->KnownToFit(job.min_workers, memory)) return true;
  const std::int64_t least = LeastMemory(job, job.workers);
  if (known->KnownToFail(job.min_workers, least)) return false;
  const int workers = FewestWorkers(job, job.workers, nodes, cluster.total());
  if (workers > 0) {
    known->Fits(workers, NeedOf(job, workers).memory);
  } else if (memory == least) {
    known->Fails(job.min_workers, least);
  }
  return workers > 0;
}

// MostWorkers, by what is known where that is enough.
int MostWorkers(const Job& job, int limit, const Free& free, Frontier* known) {
  Need need = NeedOf(job, job.min_workers);
  need.memory = LeastMemory(job, std::min(limit, job.workers));
  if (known->KnownToFail(job.min_workers, need.memory)) return 0;
  const std::vector<int>& nodes = job.kind->nodes->open;
  if (Capacity(nodes, free, need, job.min_workers) < job.min_workers) {
    known->Fails(job.min_workers, need.memory);
    return 0;
  }
  return MostWorkers(job, limit, free);
}

class Round {
 public:
  Round(const ClusterView& view, const SchedulerSpec& policy)
      : policy_(policy),
        cluster_(view.nodes),
        queue_(view, policy, &cluster_),
        free_(FreeBeside(cluster_, queue_.running())),
        gpus_(cluster_, queue_.running()),
        holds_(queue_.waiting().size(), Hold::kNone),
        started_(queue_.waiting().size(), false) {}

  Decisions Decide() {
    StartResized();
    for (std::size_t i = 0; i < holds_.size(); ++i) {
      if (!started_[i]) Consider(i);
    }
    Grow();
    Explain();
    return std::move(decisions_);
  }

 private:
  // What keeps the job from being started even if there is room; kNone: nothing.
  Hold HoldBefore(const Job& job) const {
    const NodeSet& nodes = *job.kind->nodes;
    if (!FitsAlone(job, nodes.all, cluster_, &job.kind->ever)) return Hold::kNever;
    if (job.view->not_before_ms > queue_.now_ms()) return Hold::kBackOff;
    if (!FitsAlone(job, nodes.open, cluster_, &job.kind->empty)) return Hold::kNotUp;
    const int allowance = Allowance(job);
    if (allowance < job.min_workers) return Hold::kLimit;
    if (allowance < job.workers &&
        FewestWorkers(job, allowance, nodes.open, cluster_.total()) == 0) {
      return Hold::kLimit;
    }
    return Hold::kNone;
  }

  // Jobs that have stopped to be resized go on before others take their slots, but leave room for
  // the first of these, and for the least of each other.
  void StartResized() {
    for (std::size_t i = 0; i < holds_.size(); ++i) {
      if (!WaitsResized(i)) continue;
      const Job& job = queue_.waiting()[i];
      const Free room = RoomForResized(i);
      const int workers = scheduling::MostWorkers(job, Allowance(job), room);
      if (workers > 0) Start(i, workers, room);
    }
  }

  bool WaitsResized(std::size_t i) const {
    const Job& job = queue_.waiting()[i];
    return job.resizing && !started_[i] && HoldBefore(job) == Hold::kNone;
  }

  Free RoomForResized(std::size_t index) const {
    const Job& job = queue_.waiting()[index];
    const Free coming = Coming();
    Free room = coming;
    for (const Job& other : queue_.running()) {
      if (other.leaving && other.resizing) TakeLeast(other, cluster_, &room);
    }
    for (std::size_t i = 0; i < holds_.size(); ++i) {
      if (i != index && WaitsResized(i)) TakeLeast(queue_.waiting()[i], cluster_, &room);
    }
    const Job* first = FirstOther();
    if (first != nullptr && first < &job &&  // in the order of the queue
        scheduling::MostWorkers(*first, Allowance(*first), coming) > 0) {
      Free beside = room;
      TakeLeast(job, cluster_, &beside);
      const int most = scheduling::MostWorkers(*first, Allowance(*first), beside);
      if (most == 0) return Free(free_.size());  // not both: the other is before it
      Take(*first, most, Place(*first, most, cluster_, beside), &room);
    }
    for (std::size_t i = 0; i < room.size(); ++i) room[i] = Least(room[i], free_[i]);
    return room;
  }

  const Job* FirstOther() const {
    const auto found = std::find_if(
        queue_.waiting().begin(), queue_.waiting().end(),
        [this](const Job& job) { return !job.resizing && HoldBefore(job) == Hold::kNone; });
    return found == queue_.waiting().end() ? nullptr : &*found;
  }

  // What is free once all have ended that have been asked to.
  Free Coming() const {
    Free coming = free_;
    for (const Job& job : queue_.running()) {
      if (job.leaving) Release(job, &coming);
    }
    return coming;
  }

  void Consider(std::size_t i) {
    const Job& job = queue_.waiting()[i];
    holds_[i] = HoldBefore(job);
    if (holds_[i] == Hold::kLimit) {
      job.user->limited = true;
      KeepLimitFor(job);
    }
    if (holds_[i] != Hold::kNone) return;
    if (reservation_ && !policy_.backfill()) {
      holds_[i] = Hold::kBehind;
      return;
    }
    const int workers = MostWorkers(job, Allowance(job), free_, &job.kind->free);
    if (reservation_) {
      Backfill(i, workers);
    } else if (workers > 0) {
      Start(i, workers, free_);
    } else {
      holds_[i] = Hold::kFirst;
      Block(job);
    }
  }

  // Its owner's smaller jobs could use up the limit for ever: others are not held back.
  void KeepLimitFor(const Job& job) {
    if (!job.user->kept_for.empty() || queue_.now_ms() - job.view->waiting_since_ms < kPatienceMs) {
      return;
    }
    const int workers =
        FewestWorkers(job, job.user->max_workers, job.kind->nodes->open, cluster_.total());
    if (workers > 0) SetLimitAside(job, workers);
  }

  static void SetLimitAside(const Job& job, int workers) {
    job.user->set_aside += workers;
    job.user->kept_for.push_back(&job);
  }

  bool EndsInTime(const Job& job, int workers) const {
    const auto left = SecondsLeft(job, workers);
    return reservation_->trusted && reservation_->start_ms && left &&
           static_cast<double>(queue_.now_ms()) + *left * 1000 <=
               static_cast<double>(*reservation_->start_ms);
  }

  void Backfill(std::size_t i, int workers) {
    const Job& job = queue_.waiting()[i];
    if (workers == 0) {
      holds_[i] = Hold::kNoRoom;
    } else if (EndsInTime(job, workers)) {
      Start(i, workers, free_);
    } else if ((workers = MostWorkers(job, Allowance(job), spare_, &job.kind->spare)) > 0) {
      const Placement placement = Start(i, workers, spare_);
      Take(job, workers, placement, &reservation_->beside);
      for (const Portion& portion : placement) UpdateSpare(portion.node);
    } else {
      holds_[i] = Hold::kWouldDelay;
    }
  }

  Placement Start(std::size_t i, int workers, const Free& room) {
    const Job& job = queue_.waiting()[i];
    Placement placement = Place(job, workers, cluster_, room);
    StartDecision decision;
    decision.number = job.view->number;
    for (const Portion& portion : placement) {
      NodeSlots& slots = decision.slots.emplace_back();
      slots.set_node(cluster_.node(portion.node).name);
      slots.set_slots(portion.workers);
      if (!job.kind->gpu) continue;
      for (const int gpu : gpus_.Take(portion.node, portion.workers)) slots.add_gpus(gpu);
    }
    decisions_.starts.push_back(std::move(decision));
    Take(job, workers, placement, &free_);
    if (reservation_) {
      for (const Portion& portion : placement) UpdateSpare(portion.node);
    }
    job.user->workers += workers;
    started_[i] = true;
    return placement;
  }

  void UpdateSpare(int node) {
    const auto index = static_cast<std::size_t>(node);
    spare_[index] = Least(free_[index], reservation_->beside[index]);
  }

  // `job` is the first that cannot start: makes room for it, and sets it aside.
  void Block(const Job& job) {
    const std::vector<int>& nodes = job.kind->nodes->open;
    const int limit = Allowance(job);
    Free coming = Coming();
    int workers = FewestWorkers(job, limit, nodes, coming);
    if (workers == 0) {
      workers = FewestWorkers(job, limit, nodes, cluster_.total());
      MakeRoom(job, workers, &coming);
    }
    SetLimitAside(job, workers);
    reservation_ = Reserve(job, workers, queue_, cluster_, free_, coming);
    spare_ = free_;
    for (int node = 0; node < cluster_.size(); ++node) UpdateSpare(node);
  }

  void MakeRoom(const Job& job, int workers, Free* coming) {
    Yield::Cause cause = Yield::RESIZE;
    auto chosen = ChooseToShrink(job, workers, policy_, cluster_, *coming, &queue_);
    if (!chosen && policy_.preemption()) {
      cause = Yield::PREEMPT;
      chosen = ChooseVictims(job, workers, policy_, *coming, &queue_);
    }
    if (!chosen) return;
    for (Job* other : *chosen) {
      Release(*other, coming);
      Ask(other, cause,
          fmt::format("{} (priority {}) needs {} slot{}{}", JobName(job), job.view->priority,
                      workers, workers == 1 ? "" : "s",
                      cause == Yield::RESIZE ? "; goes on with fewer workers" : ""));
    }
  }

  void Ask(Job* job, Yield::Cause cause, std::string reason) {
    job->leaving = true;
    job->resizing = cause == Yield::RESIZE;
    decisions_.yields.push_back({job->view->number, cause, std::move(reason)});
  }

  void Grow() {
    for (const Growth& growth :
         ChooseToGrow(policy_, cluster_, free_, reservation_ ? spare_ : free_, &queue_)) {
      Ask(growth.job, Yield::RESIZE,
          fmt::format("there is room for {} workers instead of {}", growth.workers,
                      growth.job->running));
    }
  }

  void Explain() {
    std::vector<const Job*> stopping;
    for (const Job& job : queue_.running()) {
      if (job.leaving) stopping.push_back(&job);
    }
    Reasons reasons(cluster_, free_, queue_.now_ms(), reservation_ ? &*reservation_ : nullptr,
                    std::move(stopping));
    int position = 0;
    for (std::size_t i = 0; i < holds_.size(); ++i) {
      if (started_[i]) continue;
      const Job& job = queue_.waiting()[i];
      WaitDecision& wait = decisions_.waits.emplace_back();
      wait.number = job.view->number;
      wait.position = ++position;
      wait.reason = reasons.Of(job, holds_[i]);
      if (holds_[i] == Hold::kFirst) wait.start_ms = reservation_->start_ms;
    }
  }

  const SchedulerSpec& policy_;
  Cluster cluster_;
  Queue queue_;
  Free free_;
  GpuNumbers gpus_;
  std::optional<Reservation> reservation_;
  Free spare_;               // free now and not set aside
  std::vector<Hold> holds_;  // of the waiting jobs
  std::vector<bool> started_;
  Decisions decisions_;
};

}  // namespace
}  // namespace scheduling

Decisions Schedule(const ClusterView& view, const SchedulerSpec& policy) {
  return scheduling::Round(view, policy).Decide();
}

std::optional<std::string> WhyNever(const JobView& job, const std::vector<NodeView>& nodes) {
  scheduling::Cluster cluster(nodes);
  ClusterView view;
  view.jobs.push_back(job);
  view.jobs.front().placement.clear();
  view.jobs.front().leaving = false;
  const scheduling::Queue queue(view, SchedulerSpec(), &cluster);
  const scheduling::Job& only = queue.waiting().front();
  const std::vector<int>& all = only.kind->nodes->all;
  if (scheduling::FewestWorkers(only, only.workers, all, cluster.total()) > 0) return std::nullopt;
  return scheduling::Obstacle(only, cluster, false);
}

}  // namespace fr
