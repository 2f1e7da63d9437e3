#include "coordinator/scheduler/reasons.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/cli/text.h"
#include "coordinator/scheduler/placement.h"

namespace fr::scheduling {
namespace {

std::string Counted(std::int64_t count, const char* noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

const char* Are(std::int64_t count) { return count == 1 ? "is" : "are"; }
const char* Have(std::int64_t count) { return count == 1 ? "has" : "have"; }

// "label a100", "labels a100 and ib"
std::string LabelsText(const std::vector<std::string>& labels) {
  return fmt::format("label{} {}", labels.size() == 1 ? "" : "s", fmt::join(labels, " and "));
}

std::string NoSuchLabels(const NodeSet& set, const Cluster& cluster, bool open) {
  std::string text = fmt::format("needs {}: no node{} has {}", LabelsText(set.labels),
                                 open ? " that is up" : "", set.labels.size() == 1 ? "it" : "them");
  if (set.labels.size() == 1) return text;
  std::vector<std::string> counts;
  for (const std::string& label : set.labels) {
    const auto count = static_cast<std::int64_t>(cluster.CountWith(label));
    counts.push_back(fmt::format("{} {} {}", count, Have(count), label));
  }
  return text + fmt::format(" ({})", fmt::join(counts, ", "));
}

// What nodes have: "2 nodes with label x have 4 together", "1 node has 4".
std::string TheyHave(const std::vector<int>& among, const NodeSet& set, bool open,
                     const std::string& what) {
  const auto count = std::ssize(among);
  return fmt::format("{}{}{} {} {}{}", Counted(count, "node"),
                     !open        ? ""
                     : count == 1 ? " that is up"
                                  : " that are up",
                     set.labels.empty() ? "" : " with " + LabelsText(set.labels), Have(count), what,
                     count == 1 ? "" : " together");
}

// The number of workers with which each of them needs least.
int LightestWorkers(const Job& job) {
  int lightest = job.min_workers;
  for (int workers = job.min_workers; workers <= job.workers; ++workers) {
    if (NeedOf(job, workers).memory < NeedOf(job, lightest).memory) lightest = workers;
  }
  return lightest;
}

// What a worker needs and no single node has, or nothing.
std::string NoNodeFor(const Need& need, const Cluster& cluster, const std::vector<int>& among) {
  std::int64_t cores = 0;
  int largest = among.front();
  for (const int node : among) {
    const Amounts& total = cluster.total()[static_cast<std::size_t>(node)];
    cores = std::max(cores, total.cpus);
    if (total.memory > cluster.total()[static_cast<std::size_t>(largest)].memory) largest = node;
  }
  if (need.cpus > cores) {
    return fmt::format("a worker takes {}, the largest node has {}", Counted(need.cpus, "core"),
                       cores);
  }
  const NodeView& node = cluster.node(largest);
  if (cluster.total()[static_cast<std::size_t>(largest)].memory < need.memory) {
    return fmt::format("a worker needs {} of memory, the largest node, {}, has {}",
                       BytesText(need.memory), node.name, BytesText(node.memory_bytes));
  }
  return "";
}

std::string AtLeast(const Job& job) { return job.elastic() ? "at least " : ""; }

}  // namespace

std::string Obstacle(const Job& job, const Cluster& cluster, bool open) {
  const NodeSet& set = *job.kind->nodes;
  const std::vector<int>& among = open ? set.open : set.all;
  if (among.empty()) {
    if (!set.labels.empty()) return NoSuchLabels(set, cluster, open);
    return open ? "no node is up" : "there are no nodes";
  }
  const auto fit = [&](const Need& need) {
    return Capacity(among, cluster.total(), need, job.workers);
  };
  const auto they_have = [&](const std::string& what) { return TheyHave(among, set, open, what); };
  const std::string least = AtLeast(job);
  for (const bool gpu : {false, true}) {
    const std::int64_t fitting = fit({0, 0, gpu});
    if ((gpu && !job.kind->gpu) || fitting >= job.min_workers) continue;
    return fmt::format("needs {}{}, {}", least, Counted(job.min_workers, gpu ? "GPU" : "slot"),
                       they_have(std::to_string(fitting)));
  }
  const int lightest = LightestWorkers(job);
  const Need need = NeedOf(job, lightest);
  if (std::string text = NoNodeFor(need, cluster, among); !text.empty()) return text;
  if (const Need cores{need.cpus, 0, need.gpu}; fit(cores) < job.min_workers) {
    return fmt::format("needs {}{} with {} each, {}", least, Counted(job.min_workers, "worker"),
                       Counted(need.cpus, "core"),
                       they_have(fmt::format("room for {}", fit(cores))));
  }
  return fmt::format("needs {} with {} of memory each, {}", Counted(lightest, "worker"),
                     BytesText(need.memory), they_have(fmt::format("memory for {}", fit(need))));
}

Reasons::Reasons(const Cluster& cluster, const Free& free, std::int64_t now_ms,
                 const Reservation* first, std::vector<const Job*> stopping)
    : cluster_(cluster),
      free_(free),
      now_ms_(now_ms),
      first_(first),
      first_name_(first != nullptr ? JobName(*first->first) : ""),
      stopping_(std::move(stopping)) {}

const Reasons::Room& Reasons::RoomFor(const Kind& kind) {
  const auto [room, added] = rooms_.try_emplace(&kind);
  if (added) {
    for (const int node : kind.nodes->open) {
      const Amounts& amounts = free_[static_cast<std::size_t>(node)];
      room->second.slots += WorkersThatFit(amounts, {0, 0, kind.gpu});
      room->second.cores += WorkersThatFit(amounts, {kind.cpus, 0, kind.gpu});
    }
  }
  return room->second;
}

std::string Reasons::Needs(const Job& job, int workers) {
  const NodeSet& set = *job.kind->nodes;
  const Room& room = RoomFor(*job.kind);
  const std::string what = AtLeast(job) + Counted(workers, job.kind->gpu ? "GPU" : "slot");
  if (room.slots == 0 && !set.labels.empty()) {
    const auto nodes = std::ssize(set.open);
    return fmt::format("needs {}: {} {} {}, {} full", LabelsText(set.labels),
                       Counted(nodes, "node"), Have(nodes), set.labels.size() == 1 ? "it" : "them",
                       nodes == 1   ? "and is"
                       : nodes == 2 ? "both"
                                    : "all");
  }
  const std::string with = set.labels.empty() ? "" : " with " + LabelsText(set.labels);
  if (room.slots < workers) {
    return fmt::format("needs {}{}, {} {} free", what, with, room.slots, Are(room.slots));
  }
  if (room.cores < workers) {
    return fmt::format("needs {}{} with {} each, {} {} free", what, with,
                       Counted(job.kind->cpus, "core"), room.cores, Are(room.cores));
  }
  const Need need = NeedOf(job, workers);
  if (need.memory == 0) return fmt::format("needs {}{}", what, with);
  std::string text =
      fmt::format("needs {}{} with {} of memory each", what, with, BytesText(need.memory));
  if (first_ == nullptr || first_->first != &job) return text;
  const std::int64_t fit = Capacity(set.open, free_, need, workers);
  return fit < workers ? text + fmt::format(", {} {} free", fit, Are(fit)) : text;
}

std::string Reasons::OfFirst(const Job& job) {
  const std::string text = Needs(job, first_->workers) + "; first in the queue";
  if (!first_->start_ms) return text + ", when others end is not known";
  if (*first_->start_ms > now_ms_) {
    return text + ", expected to start in " +
           DurationText(static_cast<double>(*first_->start_ms - now_ms_) / 1000);
  }
  if (stopping_.empty()) return text + ", expected to start soon";
  std::vector<std::string> names;
  for (const Job* other : stopping_) {
    if (names.size() == 3) break;
    names.push_back(JobName(*other));
  }
  const std::size_t more = stopping_.size() - names.size();
  return text + fmt::format(", starts when {}{} stopped", fmt::join(names, ", "),
                            more > 0            ? fmt::format(" and {} more have", more)
                            : names.size() == 1 ? " has"
                                                : " have");
}

std::string Reasons::OfLimit(const Job& job) const {
  const User& user = *job.user;
  std::vector<std::string> others;
  for (const Job* other : user.kept_for) others.push_back(JobName(*other));
  if (std::find(user.kept_for.begin(), user.kept_for.end(), &job) != user.kept_for.end()) {
    others.clear();
  }
  return fmt::format("{} runs {} of at most {}{}; this job needs {}{}",
                     user.name.empty() ? "its owner" : user.name, Counted(user.workers, "worker"),
                     user.max_workers,
                     others.empty() ? ""
                                    : fmt::format(", {} {} to have {}", fmt::join(others, " and "),
                                                  Are(std::ssize(others)), user.set_aside),
                     AtLeast(job), job.min_workers);
}

const std::string& Reasons::ObstacleOf(const Job& job, bool open) {
  const auto [text, added] = obstacles_.try_emplace(
      {job.kind, open, job.min_workers, job.workers, LeastMemory(job, job.workers)});
  if (added) {
    text->second = Obstacle(job, cluster_, open);
  }
  return text->second;
}

std::string Reasons::Of(const Job& job, Hold hold) {
  switch (hold) {
    case Hold::kNone:
      return "";
    case Hold::kBackOff:
      return "back-off until " + TimeText(job.view->not_before_ms);
    case Hold::kNever:
      return ObstacleOf(job, false);
    case Hold::kNotUp:
      return ObstacleOf(job, true);
    case Hold::kLimit:
      return OfLimit(job);
    case Hold::kFirst:
      return OfFirst(job);
    case Hold::kNoRoom:
      return Needs(job, job.min_workers) + "; behind " + first_name_;
    case Hold::kWouldDelay:
      return fmt::format("would delay {}, which is before it and needs {}", first_name_,
                         Counted(first_->workers, "slot"));
    case Hold::kBehind:
      return "behind " + first_name_;
  }
  return "";
}

}  // namespace fr::scheduling
