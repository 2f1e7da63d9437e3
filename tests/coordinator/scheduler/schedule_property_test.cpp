// What holds for every cluster and queue, looked at in thousands of random ones. The arithmetic
// here is the test's own.

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "common/base/random.h"
#include "tests/coordinator/scheduler/round_text.h"

namespace fr {
namespace {

constexpr int kRounds = 4000;

struct Left {
  std::int64_t slots, cpus, memory, gpus;
};
using LeftOf = std::map<std::string, Left>;

std::int64_t Bytes(const JobView& job, int workers) {
  if (job.worker_bytes.empty()) return 0;
  const int index =
      std::clamp<int>(workers - job.min_workers, 0, static_cast<int>(job.worker_bytes.size()) - 1);
  return job.worker_bytes[static_cast<std::size_t>(index)];
}

int Workers(const std::vector<NodeSlots>& slots) {
  int workers = 0;
  for (const NodeSlots& part : slots) workers += part.slots();
  return workers;
}

LeftOf EmptyNodes(const ClusterView& view) {
  constexpr std::int64_t kMany = std::int64_t{1} << 60;
  LeftOf left;
  for (const NodeView& node : view.nodes) {
    left[node.name] = {node.slots, node.cpus > 0 ? node.cpus : kMany,
                       node.memory_bytes > 0 ? node.memory_bytes : kMany, node.gpus};
  }
  return left;
}

// sign 1: takes; -1: gives back.
void Move(const JobView& job, const std::vector<NodeSlots>& slots, int sign, LeftOf* left) {
  const int workers = Workers(slots);
  for (const NodeSlots& part : slots) {
    const auto node = left->find(part.node());
    if (node == left->end()) continue;
    node->second.slots -= sign * part.slots();
    node->second.cpus -= sign * std::int64_t{part.slots()} * job.cpus_per_worker;
    node->second.memory -= sign * part.slots() * Bytes(job, workers);
    node->second.gpus -= sign * part.gpus_size();
  }
}

bool HasLabels(const NodeView& node, const JobView& job) {
  return std::all_of(job.labels.begin(), job.labels.end(), [&](const std::string& label) {
    return label == node.name ||
           std::find(node.labels.begin(), node.labels.end(), label) != node.labels.end();
  });
}

// Whether any number of workers from min_workers to `limit` fits, tried one by one.
bool Fits(const JobView& job, int limit, const ClusterView& view, const LeftOf& left) {
  for (int workers = job.min_workers; workers <= std::min(limit, job.workers); ++workers) {
    std::int64_t fit = 0;
    for (const NodeView& node : view.nodes) {
      if (!node.open || !HasLabels(node, job)) continue;
      Left rest = left.at(node.name);
      while (rest.slots >= 1 && rest.cpus >= job.cpus_per_worker &&
             rest.memory >= Bytes(job, workers) && (!job.takes_gpus || rest.gpus >= 1)) {
        rest.slots -= 1;
        rest.cpus -= job.cpus_per_worker;
        rest.memory -= Bytes(job, workers);
        rest.gpus -= job.takes_gpus ? 1 : 0;
        ++fit;
      }
    }
    if (fit >= workers) return true;
  }
  return false;
}

template <typename T>
T Pick(Random* random, const std::vector<T>& choices) {
  return choices[static_cast<std::size_t>(random->Below(std::ssize(choices)))];
}

NodeView RandomNode(int number, Random* random) {
  NodeView node;
  node.name = fmt::format("n{}", number);
  node.group = Pick<std::string>(random, {"", "r1", "r2"});
  if (random->Chance(0.4)) node.labels.push_back("x");
  if (random->Chance(0.3)) node.labels.push_back("y");
  node.open = random->Chance(0.85);
  node.slots = 1 + static_cast<int>(random->Below(8));
  node.gpus = Pick<int>(random, {0, 0, 2, 4, 8});
  node.cpus = Pick<int>(random, {0, 8, 16});
  node.memory_bytes = Pick<std::int64_t>(random, {0, 32, 64});
  return node;
}

JobView RandomJob(int number, Random* random) {
  JobView job;
  job.number = number;
  job.owner = Pick<std::string>(random, {"ada", "eve", "bob"});
  job.priority = Pick<int>(random, {10, 50, 50, 55, 60, 90});
  job.min_workers = Pick<int>(random, {1, 1, 2, 3, 4, 8, 16});
  job.workers = job.min_workers + Pick<int>(random, {0, 0, 0, 1, 4, 8});
  job.cpus_per_worker = Pick<int>(random, {1, 1, 2, 4});
  job.takes_gpus = random->Chance(0.3);
  if (random->Chance(0.3)) job.labels.push_back(Pick<std::string>(random, {"x", "y", "n1"}));
  if (random->Chance(0.5)) {
    const std::int64_t each = 1 + random->Below(20);
    for (int n = job.min_workers; n <= job.workers; ++n) {
      job.worker_bytes.push_back(random->Chance(0.8) ? std::max<std::int64_t>(each - n, 1) : each);
    }
  }
  job.preemptible = random->Chance(0.8);
  job.waiting_since_ms = kNow - random->Below(50 * 3'600'000);
  if (random->Chance(0.1)) job.not_before_ms = kNow + random->Below(3) - 1;
  if (random->Chance(0.7)) job.seconds_left = static_cast<double>(random->Below(20'000));
  return job;
}

// Gives it a random place, if there is one.
void Run(const ClusterView& view, Random* random, LeftOf* left,
         std::map<std::string, std::set<int>>* gpus, JobView* job) {
  if (!Fits(*job, job->workers, view, *left)) return;
  for (int workers = job->workers; workers >= job->min_workers; --workers) {
    JobView alone = *job;
    LeftOf rest = *left;
    auto used = *gpus;
    for (const NodeView& node : view.nodes) {
      if (!HasLabels(node, *job)) continue;
      NodeSlots slots;
      slots.set_node(node.name);
      Left& on = rest[node.name];
      while (Workers(alone.placement) + slots.slots() < workers && on.slots > 0 &&
             on.cpus >= job->cpus_per_worker && on.memory >= Bytes(*job, workers) &&
             (!job->takes_gpus || on.gpus > 0)) {
        on.slots -= 1;
        on.cpus -= job->cpus_per_worker;
        on.memory -= Bytes(*job, workers);
        slots.set_slots(slots.slots() + 1);
        if (!job->takes_gpus) continue;
        on.gpus -= 1;
        int gpu = 0;
        while (used[node.name].contains(gpu)) ++gpu;
        used[node.name].insert(gpu);
        slots.add_gpus(gpu);
      }
      if (slots.slots() > 0) alone.placement.push_back(slots);
    }
    if (Workers(alone.placement) < workers) continue;
    *job = alone;
    job->started_ms = kNow - random->Below(4 * 3'600'000);
    job->unsaved_seconds = static_cast<double>(random->Below(1000));
    job->preemptions = static_cast<int>(random->Below(3));
    job->leaving = random->Chance(0.15);
    *left = rest;
    *gpus = used;
    return;
  }
}

// `elastic`: alike nodes and jobs in all sizes, so that there is much to resize.
ClusterView RandomView(bool elastic, Random* random) {
  ClusterView view;
  view.now_ms = kNow;
  const auto nodes = 1 + random->Below(8);
  for (int i = 0; i < nodes; ++i) {
    NodeView node = RandomNode(i, random);
    view.nodes.push_back(elastic ? NodeView{node.name, node.group, {}, true, node.slots, 0, 0, 0}
                                 : node);
  }
  LeftOf left = EmptyNodes(view);
  std::map<std::string, std::set<int>> gpus;
  const auto jobs = random->Below(30);
  for (int i = 1; i <= jobs; ++i) {
    JobView job = RandomJob(i, random);
    if (elastic) {
      job.labels.clear();
      job.takes_gpus = false;
      job.workers = job.min_workers + static_cast<int>(random->Below(6));
    }
    if (random->Chance(0.5)) Run(view, random, &left, &gpus, &job);
    job.resizing = !elastic && job.workers > job.min_workers && random->Chance(0.1);
    view.jobs.push_back(job);
  }
  if (random->Chance(0.5)) view.users["ada"] = {1000, 1, elastic ? 0 : 8};
  if (random->Chance(0.5)) view.users["eve"] = {500, 2, 0};
  return view;
}

SchedulerSpec RandomPolicy(Random* random) {
  SchedulerSpec policy;
  policy.set_backfill(random->Chance(0.8));
  policy.set_preemption(random->Chance(0.8));
  policy.set_preemption_gap(Pick<double>(random, {0, 5, 10}));
  return policy;
}

// A round and what is left after it.
class RandomRound {
 public:
  explicit RandomRound(std::uint64_t seed, bool elastic = false) : random_(seed) {
    view_ = RandomView(elastic, &random_);
    policy_ = RandomPolicy(&random_);
    decisions_ = Schedule(view_, policy_);
    for (const JobView& job : view_.jobs) jobs_[job.number] = &job;
    left_ = EmptyNodes(view_);
    for (const JobView& job : view_.jobs) Move(job, job.placement, 1, &left_);
    before_ = left_;
    for (const StartDecision& start : decisions_.starts) {
      Move(*jobs_.at(start.number), start.slots, 1, &left_);
    }
  }

  const JobView& job(std::int64_t number) const { return *jobs_.at(number); }

  const StartDecision* StartOf(std::int64_t number) const {
    for (const StartDecision& start : decisions_.starts) {
      if (start.number == number) return &start;
    }
    return nullptr;
  }

  bool Yields(std::int64_t number) const {
    return std::any_of(decisions_.yields.begin(), decisions_.yields.end(),
                       [&](const YieldDecision& yield) { return yield.number == number; });
  }

  // Workers that its owner may have beside those that run or were started.
  int Allowance(const JobView& wanting) const {
    const auto user = view_.users.find(wanting.owner);
    if (user == view_.users.end() || user->second.max_workers == 0) return wanting.workers;
    int used = 0;
    for (const auto& [number, other] : jobs_) {
      if (other->owner != wanting.owner) continue;
      used += Workers(other->placement);
      if (const StartDecision* start = StartOf(number)) used += Workers(start->slots);
    }
    return user->second.max_workers - used;
  }

  double Rank(const JobView& waiting) const {
    double all = 0;
    for (const auto& [name, user] : view_.users) all += user.slot_seconds / user.share;
    const auto user = view_.users.find(waiting.owner);
    const double use =
        user == view_.users.end() ? 0 : user->second.slot_seconds / user->second.share;
    const double hours = static_cast<double>(kNow - waiting.waiting_since_ms) / 3.6e6;
    return waiting.priority + std::min(hours, 100.0) - (all > 0 ? 20 * use / all : 0);
  }

  // Its owner has too many workers as it is, but could have this job alone.
  bool WaitsForLimit(const JobView& waiting) const {
    const auto user = view_.users.find(waiting.owner);
    return user != view_.users.end() && !WaitsForRoom(waiting) &&
           Fits(waiting, user->second.max_workers, view_, EmptyNodes(view_));
  }

  // It waits for nothing but room.
  bool WaitsForRoom(const JobView& waiting) const {
    return waiting.not_before_ms <= kNow && Allowance(waiting) >= waiting.min_workers &&
           Fits(waiting, Allowance(waiting), view_, EmptyNodes(view_));
  }

  Random random_;
  ClusterView view_;
  SchedulerSpec policy_;
  Decisions decisions_;
  std::map<std::int64_t, const JobView*> jobs_;
  LeftOf before_;
  LeftOf left_;
};

void ForRandomRounds(const std::function<void(const RandomRound&)>& check, bool elastic = false) {
  for (std::uint64_t seed = 0; seed < kRounds && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    check(RandomRound(seed, elastic));
  }
}

// No slot, core, GPU or byte twice; only open nodes with the job's labels.
TEST(ScheduleProperty, NothingIsGivenTwice) {
  ForRandomRounds([](const RandomRound& round) {
    std::set<std::pair<std::string, int>> gpus;
    for (const JobView& job : round.view_.jobs) {
      for (const NodeSlots& slots : job.placement) {
        for (const int gpu : slots.gpus()) gpus.emplace(slots.node(), gpu);
      }
    }
    for (const StartDecision& start : round.decisions_.starts) {
      const JobView& job = round.job(start.number);
      for (const NodeSlots& slots : start.slots) {
        const auto node =
            std::find_if(round.view_.nodes.begin(), round.view_.nodes.end(),
                         [&](const NodeView& view) { return view.name == slots.node(); });
        ASSERT_NE(node, round.view_.nodes.end());
        EXPECT_TRUE(node->open && HasLabels(*node, job));
        EXPECT_GT(slots.slots(), 0);
        EXPECT_EQ(slots.gpus_size(), job.takes_gpus ? slots.slots() : 0);
        for (const int gpu : slots.gpus()) {
          EXPECT_TRUE(gpu >= 0 && gpu < node->gpus);
          EXPECT_TRUE(gpus.emplace(slots.node(), gpu).second) << "GPU " << gpu << " is in use";
        }
        const Left& left = round.left_.at(slots.node());
        EXPECT_TRUE(left.slots >= 0 && left.cpus >= 0 && left.memory >= 0 && left.gpus >= 0);
      }
    }
  });
}

// Every waiting job starts as a whole, or waits with a place and a reason.
TEST(ScheduleProperty, AllOrNothing) {
  ForRandomRounds([](const RandomRound& round) {
    std::set<std::int64_t> seen;
    for (const StartDecision& start : round.decisions_.starts) {
      const JobView& job = round.job(start.number);
      EXPECT_TRUE(job.placement.empty() && seen.insert(start.number).second);
      EXPECT_GE(Workers(start.slots), job.min_workers);
      EXPECT_LE(Workers(start.slots), job.workers);
      EXPECT_LE(job.not_before_ms, kNow);
      std::set<std::string> nodes;
      for (const NodeSlots& slots : start.slots) EXPECT_TRUE(nodes.insert(slots.node()).second);
    }
    int position = 0;
    for (const WaitDecision& wait : round.decisions_.waits) {
      EXPECT_TRUE(round.job(wait.number).placement.empty() && seen.insert(wait.number).second);
      EXPECT_EQ(wait.position, ++position);
      EXPECT_FALSE(wait.reason.empty());
    }
    for (const JobView& job : round.view_.jobs) {
      EXPECT_EQ(seen.contains(job.number), job.placement.empty());
    }
  });
}

TEST(ScheduleProperty, LimitsOfUsersAreKept) {
  ForRandomRounds([](const RandomRound& round) {
    for (const StartDecision& start : round.decisions_.starts) {
      JobView one;
      one.owner = round.job(start.number).owner;
      EXPECT_GE(round.Allowance(one), 0) << one.owner;
    }
  });
}

// The order in which jobs and nodes are listed changes nothing.
TEST(ScheduleProperty, DependsOnNoOrder) {
  ForRandomRounds([](const RandomRound& round) {
    ClusterView view = round.view_;
    Random random(7);
    const auto shuffle = [&random](auto* items) {
      for (std::size_t i = items->size(); i > 1; --i) {
        std::swap((*items)[i - 1],
                  (*items)[static_cast<std::size_t>(random.Below(static_cast<std::int64_t>(i)))]);
      }
    };
    shuffle(&view.nodes);
    shuffle(&view.jobs);
    const Decisions again = Schedule(view, round.policy_);
    EXPECT_EQ(TextOf(again), TextOf(round.decisions_));
    EXPECT_EQ(ReasonsOf(again), ReasonsOf(round.decisions_));
  });
}

// The queue's order is that of the formula in docs/scheduling.md.
TEST(ScheduleProperty, WaitsAreInTheOrderOfTheQueue) {
  ForRandomRounds([](const RandomRound& round) {
    for (std::size_t i = 1; i < round.decisions_.waits.size(); ++i) {
      const JobView& before = round.job(round.decisions_.waits[i - 1].number);
      const JobView& after = round.job(round.decisions_.waits[i].number);
      EXPECT_GE(round.Rank(before) + 1e-9, round.Rank(after));
    }
  });
}

// Nothing is idle that the first could have: whoever waits first for room does not fit beside those
// that ran already and those that were before it.
TEST(ScheduleProperty, TheFirstThatWaitsDoesNotFit) {
  int looked_at = 0;
  ForRandomRounds([&looked_at](const RandomRound& round) {
    std::set<std::string> kept;  // owners whose limit is kept for a job that has waited long
    for (const WaitDecision& wait : round.decisions_.waits) {
      const JobView& first = round.job(wait.number);
      if (round.WaitsForLimit(first) && kNow - first.waiting_since_ms >= 4 * 3'600'000) {
        kept.insert(first.owner);
      }
      if (!round.WaitsForRoom(first) || kept.contains(first.owner)) continue;
      LeftOf left = round.before_;
      for (const StartDecision& start : round.decisions_.starts) {
        const JobView& job = round.job(start.number);
        if (job.resizing || round.Rank(job) >= round.Rank(first)) Move(job, start.slots, 1, &left);
      }
      EXPECT_FALSE(Fits(first, round.Allowance(first), round.view_, left)) << wait.number;
      ++looked_at;
      return;
    }
  });
  EXPECT_GT(looked_at, kRounds / 4);
}

// If all predictions come true, the first that waits starts when it was told, whoever went first.
TEST(ScheduleProperty, BackfillDelaysNobodyWhosePredictionsAreRight) {
  int looked_at = 0;
  ForRandomRounds([&looked_at](const RandomRound& round) {
    for (const WaitDecision& wait : round.decisions_.waits) {
      if (!wait.start_ms) continue;
      const double until = static_cast<double>(*wait.start_ms - kNow) / 1000;
      LeftOf left = round.left_;
      const auto ends = [&](const JobView& job, const std::vector<NodeSlots>& slots) {
        // Decisions are in whole milliseconds.
        return job.seconds_left &&
               *job.seconds_left * job.workers / Workers(slots) <= until + 0.001;
      };
      for (const JobView& job : round.view_.jobs) {
        if (job.placement.empty()) continue;
        if (job.leaving || round.Yields(job.number) || ends(job, job.placement)) {
          Move(job, job.placement, -1, &left);
        }
      }
      for (const StartDecision& start : round.decisions_.starts) {
        const JobView& job = round.job(start.number);
        if (ends(job, start.slots)) Move(job, start.slots, -1, &left);
      }
      const JobView& first = round.job(wait.number);
      EXPECT_TRUE(Fits(first, first.workers, round.view_, left)) << wait.number;
      ++looked_at;
    }
  });
  EXPECT_GT(looked_at, kRounds / 8);
}

// Victims are of lower priority by the gap, may be stopped, make room, and are all needed for that.
TEST(ScheduleProperty, PreemptionMakesRoomAndNoMore) {
  int looked_at = 0;
  ForRandomRounds([&looked_at](const RandomRound& round) {
    std::vector<const JobView*> victims;
    for (const YieldDecision& yield : round.decisions_.yields) {
      const JobView& job = round.job(yield.number);
      EXPECT_TRUE(!job.placement.empty() && !job.leaving);
      EXPECT_GE(kNow - job.started_ms, round.policy_.min_run_time_ms());
      if (yield.cause == Yield::PREEMPT) victims.push_back(&job);
      EXPECT_TRUE(yield.cause == Yield::PREEMPT || job.min_workers < job.workers);
    }
    if (victims.empty()) return;
    EXPECT_TRUE(round.policy_.preemption());
    const auto first = std::find_if(
        round.decisions_.waits.begin(), round.decisions_.waits.end(),
        [&](const WaitDecision& wait) { return round.WaitsForRoom(round.job(wait.number)); });
    ASSERT_NE(first, round.decisions_.waits.end());
    const JobView& urgent = round.job(first->number);
    LeftOf coming = round.left_;
    for (const JobView& job : round.view_.jobs) {
      if (job.leaving) Move(job, job.placement, -1, &coming);
    }
    for (const JobView* victim : victims) {
      EXPECT_TRUE(victim->preemptible);
      EXPECT_LT(victim->priority, urgent.priority);
      EXPECT_GE(urgent.priority, victim->priority + round.policy_.preemption_gap());
      Move(*victim, victim->placement, -1, &coming);
    }
    const int limit = round.Allowance(urgent);
    EXPECT_TRUE(Fits(urgent, limit, round.view_, coming));
    for (const JobView* victim : victims) {
      LeftOf without = coming;
      Move(*victim, victim->placement, 1, &without);
      EXPECT_FALSE(Fits(urgent, urgent.min_workers, round.view_, without)) << victim->number;
    }
    ++looked_at;
  });
  EXPECT_GT(looked_at, kRounds / 100);
}

// Jobs that give up workers do not stop altogether: there is room for the first and for their
// least.
TEST(ScheduleProperty, ShrinkingJobsGoOn) {
  int looked_at = 0;
  ForRandomRounds(
      [&looked_at](const RandomRound& round) {
        ClusterView next = round.view_;
        std::set<std::int64_t> shrink;
        for (const YieldDecision& yield : round.decisions_.yields) {
          if (yield.reason.find("fewer workers") != std::string::npos) shrink.insert(yield.number);
        }
        if (shrink.empty()) return;
        // A round later, with all gone that were asked to go: everyone who shrank is back.
        for (JobView& job : next.jobs) {
          if (const StartDecision* start = round.StartOf(job.number)) job.placement = start->slots;
          if (!job.leaving && !shrink.contains(job.number)) continue;
          job.not_before_ms = job.leaving ? kNow + 1 : 0;  // those others were paused, let us say
          job.placement.clear();
          job.leaving = false;
          job.resizing = shrink.contains(job.number);
          job.waiting_since_ms = kNow;
        }
        const Decisions later = Schedule(next, round.policy_);
        for (const std::int64_t number : shrink) {
          const bool back = std::any_of(later.starts.begin(), later.starts.end(),
                                        [&](const auto& start) { return start.number == number; });
          EXPECT_TRUE(back) << number;
        }
        ++looked_at;
      },
      true);
  EXPECT_GT(looked_at, kRounds / 20);
}

}  // namespace
}  // namespace fr
