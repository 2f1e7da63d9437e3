#include "coordinator/scheduler/queue.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

namespace fr::scheduling {
namespace {

constexpr double kMillisPerHour = 3.6e6;

double UseOf(const UserView& user) {
  return std::max(user.slot_seconds, 0.0) / std::max(user.share, 1e-9);
}

// How much of what all have used lately, by their shares, one has: from 0 to 1.
double PartOf(double use, double all) { return use > 0 ? std::min(use / all, 1.0) : 0; }

}  // namespace

std::string JobName(const Job& job) { return fmt::format("job-{}", job.view->number); }

Need NeedOf(const Job& job, int workers) {
  Need need{job.kind->cpus, 0, job.kind->gpu};
  const std::vector<std::int64_t>& bytes = job.view->worker_bytes;
  if (!bytes.empty()) {
    const int last = static_cast<int>(bytes.size()) - 1;
    const int index = std::clamp(workers - job.min_workers, 0, last);
    need.memory = std::max<std::int64_t>(bytes[static_cast<std::size_t>(index)], 0);
  }
  return need;
}

std::int64_t LeastMemory(const Job& job, int most) {
  std::int64_t least = NeedOf(job, job.min_workers).memory;
  const int known = job.min_workers + static_cast<int>(job.view->worker_bytes.size()) - 1;
  for (int workers = job.min_workers + 1; workers <= std::min(most, known); ++workers) {
    least = std::min(least, NeedOf(job, workers).memory);
  }
  return least;
}

std::optional<double> SecondsLeft(const Job& job, int workers) {
  const std::optional<double>& left = job.view->seconds_left;
  if (!left || !std::isfinite(*left) || workers < 1) return std::nullopt;
  return std::max(*left, 0.0) * job.workers / std::min(workers, job.workers);
}

int Allowance(const Job& job) {
  if (job.user->max_workers <= 0) return job.workers;
  const int others = job.user->workers - job.running + job.user->set_aside;
  return std::max(job.user->max_workers - others, 0);
}

namespace {

void Move(const Job& running, std::int64_t sign, Free* free) {
  for (const Held& held : running.held) {
    Amounts& amounts = (*free)[static_cast<std::size_t>(held.node)];
    Take(sign * held.workers, running.taken, &amounts);
    amounts.gpus -= sign * held.gpus;
  }
}

}  // namespace

void Release(const Job& running, Free* free) { Move(running, -1, free); }
void TakeAgain(const Job& running, Free* free) { Move(running, 1, free); }

Free FreeBeside(const Cluster& cluster, const std::vector<Job>& running) {
  Free free = cluster.total();
  for (const Job& job : running) TakeAgain(job, &free);
  return free;
}

Queue::Queue(const ClusterView& view, const SchedulerSpec& policy, Cluster* cluster)
    : view_(view), policy_(policy), cluster_(cluster) {
  for (const auto& [name, user] : view.users) all_use_ += UseOf(user);
  for (const JobView& job : view.jobs) {
    if (!job.placement.empty()) {
      running_.push_back(MakeJob(job));
    } else if (!job.leaving) {
      waiting_.push_back(MakeJob(job));
      waiting_.back().rank += Ageing(job.waiting_since_ms, view.now_ms);
    }
  }
  std::sort(running_.begin(), running_.end(),
            [](const Job& a, const Job& b) { return a.view->number < b.view->number; });
  std::sort(waiting_.begin(), waiting_.end(), [](const Job& a, const Job& b) {
    if (a.rank != b.rank) return a.rank > b.rank;
    return a.view->number < b.view->number;
  });
}

Job Queue::MakeJob(const JobView& view) {
  Job job;
  job.view = &view;
  job.kind = KindOf(view);
  job.user = UserOf(view.owner);
  job.workers = std::max(view.workers, 1);
  job.min_workers = std::clamp(view.min_workers, 1, job.workers);
  job.leaving = view.leaving;
  job.resizing = view.resizing;
  job.rank = view.priority - job.user->penalty;
  for (const NodeSlots& slots : view.placement) {
    job.running += std::max(slots.slots(), 0);
    const int node = cluster_->Find(slots.node());
    if (node < 0) continue;  // it is gone, with what it had
    job.held.push_back({node, std::max(slots.slots(), 0), slots.gpus_size()});
  }
  job.taken = NeedOf(job, job.running);
  job.taken.gpu = false;
  job.user->workers += job.running;
  return job;
}

Kind* Queue::KindOf(const JobView& view) {
  const NodeSet* nodes = cluster_->NodesWith(view.labels);
  const int cpus = std::max(view.cpus_per_worker, 0);
  const auto [kind, added] = kinds_.try_emplace({nodes, cpus, view.takes_gpus});
  if (added) {
    kind->second.nodes = nodes;
    kind->second.cpus = cpus;
    kind->second.gpu = view.takes_gpus;
  }
  return &kind->second;
}

User* Queue::UserOf(const std::string& name) {
  const auto [user, added] = users_.try_emplace(name);
  if (added) {
    user->second.name = user->first;
    const auto known = view_.users.find(name);
    if (known != view_.users.end()) {
      user->second.penalty = policy_.fair_share_weight() * PartOf(UseOf(known->second), all_use_);
      user->second.max_workers = known->second.max_workers;
    }
  }
  return &user->second;
}

double Queue::Ageing(std::int64_t since_ms, std::int64_t until_ms) const {
  const double hours =
      static_cast<double>(std::max<std::int64_t>(until_ms - since_ms, 0)) / kMillisPerHour;
  return std::min(policy_.ageing_per_hour() * hours, policy_.max_ageing());
}

std::int64_t Queue::FirstSince(const Job& job) const {
  const double unaged = job.view->priority - job.user->penalty;
  std::int64_t since = job.view->waiting_since_ms;
  for (const Job& other : running_) {
    const std::int64_t started = other.view->started_ms;
    if (started <= since) continue;
    const double rank = unaged + Ageing(job.view->waiting_since_ms, started);
    const double others = other.rank + Ageing(other.view->waiting_since_ms, started);
    if (others > rank || (others == rank && other.view->number < job.view->number)) since = started;
  }
  return since;
}

}  // namespace fr::scheduling

namespace fr {

double DecayedUse(double slot_seconds, std::int64_t elapsed_ms, std::int64_t half_life_ms) {
  if (elapsed_ms <= 0 || half_life_ms <= 0) return slot_seconds;
  return slot_seconds *
         std::exp2(-static_cast<double>(elapsed_ms) / static_cast<double>(half_life_ms));
}

}  // namespace fr
