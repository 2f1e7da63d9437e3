// Nobody waits for ever: whole days of jobs with wrong predictions, simulated.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "bench/cluster_simulation.h"
#include "bench/fifo_scheduler.h"
#include "common/base/random.h"
#include "coordinator/scheduler/scheduler.h"

namespace fr {
namespace {

constexpr std::int64_t kHour = 3'600'000;
constexpr double kLongestSeconds = 2 * 3600;
constexpr double kPatienceHours = 4;  // docs/scheduling.md

SimulatedCluster Nodes(int nodes, int slots) {
  SimulatedCluster cluster;
  for (int i = 0; i < nodes; ++i) {
    NodeView node;
    node.name = fmt::format("n{}", i);
    node.group = fmt::format("r{}", i / 2);
    node.slots = slots;
    cluster.nodes.push_back(node);
  }
  return cluster;
}

SchedulerFunction With(const SchedulerSpec& policy) {
  return [policy](const ClusterView& view) { return Schedule(view, policy); };
}

double HoursUntilStart(const TraceJob& job, const JobOutcome& outcome) {
  return static_cast<double>(outcome.first_start_ms - job.arrival_ms) / kHour;
}

// What the scheduler is told of a job that takes `seconds`.
using Prediction = std::function<double(double seconds, Random* random)>;

const std::vector<std::pair<std::string, Prediction>>& Predictions() {
  static const std::vector<std::pair<std::string, Prediction>> predictions = {
      {"right", [](double seconds, Random*) { return seconds; }},
      {"unknown", [](double, Random*) { return -1.0; }},
      {"always too short", [](double, Random*) { return 1.0; }},
      {"always too long", [](double, Random*) { return 1e6; }},
      {"wrong by any factor",
       [](double seconds, Random* random) { return seconds * std::exp(3 * random->Normal()); }},
  };
  return predictions;
}

TraceJob SmallJob(std::int64_t arrival_ms, const Prediction& prediction, Random* random) {
  TraceJob job;
  job.arrival_ms = arrival_ms;
  job.owner = fmt::format("user-{}", random->Below(5));
  job.workers = 1 + static_cast<int>(random->Below(2));
  job.seconds = random->Uniform(600, kLongestSeconds);
  job.predicted_seconds = prediction(job.seconds, random);
  return job;
}

void InOrder(std::vector<TraceJob>* trace) {
  std::stable_sort(trace->begin(), trace->end(), [](const TraceJob& a, const TraceJob& b) {
    return a.arrival_ms < b.arrival_ms;
  });
}

// More small jobs than there is room for, day and night, and now and then one that needs the whole
// cluster.
std::vector<TraceJob> EndlessSmallJobs(int slots, const Prediction& prediction, Random* random) {
  constexpr std::int64_t kDays = 4;
  std::vector<TraceJob> trace;
  double work = 0;
  while (work < 1.2 * slots * kDays * 86400) {
    trace.push_back(SmallJob(random->Below(kDays * 24 * kHour), prediction, random));
    work += trace.back().seconds * trace.back().workers;
  }
  for (const std::int64_t hour : {5, 20, 50}) {
    TraceJob job = SmallJob(hour * kHour, prediction, random);
    job.owner = "large";
    job.workers = job.min_workers = slots;
    trace.push_back(job);
  }
  InOrder(&trace);
  return trace;
}

// A job that needs the whole cluster is not put off for ever by small ones that go before it: it
// waits no longer than if nothing ever went before it, and then four hours and the longest job.
TEST(LongRun, LargeJobsStartAmongEndlessSmallOnes) {
  const SimulatedCluster cluster = Nodes(4, 4);
  SchedulerSpec policy;
  policy.set_fair_share_weight(0);  // all in the order of submission
  for (const auto& [name, prediction] : Predictions()) {
    for (std::uint64_t seed = 0; seed < 2; ++seed) {
      SCOPED_TRACE(fmt::format("predictions {}, seed {}", name, seed));
      Random random(seed);
      const std::vector<TraceJob> trace = EndlessSmallJobs(16, prediction, &random);
      const auto ours = Simulate(cluster, trace, 20 * 24 * kHour, With(policy));
      const auto plain = Simulate(cluster, trace, 20 * 24 * kHour, ScheduleFifo);
      for (std::size_t i = 0; i < trace.size(); ++i) {
        if (trace[i].workers < 16) continue;
        EXPECT_LE(
            HoursUntilStart(trace[i], ours.jobs[i]),
            HoursUntilStart(trace[i], plain.jobs[i]) + kPatienceHours + kLongestSeconds / 3600);
      }
    }
  }
}

// Where there is room for all work in the long run, every job of every size, priority and user
// starts, and ends: the priorities lie 20 apart at most and users' shares weigh 20, so that after
// 40 hours a job is before all that come.
TEST(LongRun, EveryJobStartsAndEnds) {
  const SimulatedCluster cluster = Nodes(4, 4);
  for (const bool preemption : {false, true}) {
    for (const auto& [name, prediction] : Predictions()) {
      SCOPED_TRACE(fmt::format("preemption {}, predictions {}", preemption, name));
      SchedulerSpec policy;
      policy.set_preemption(preemption);
      Random random(7);
      std::vector<TraceJob> trace;
      for (double work = 0; work < 0.9 * 16 * 10 * 86400;) {
        TraceJob job = SmallJob(random.Below(10 * 24 * kHour), prediction, &random);
        job.workers = 1 << random.Below(5);
        job.min_workers = random.Chance(0.5) ? job.workers : (job.workers + 1) / 2;
        job.priority = 40 + 10 * static_cast<int>(random.Below(3));
        if (random.Chance(0.2) && job.min_workers <= 4) job.labels.push_back("n1");
        if (job.min_workers < job.workers) job.workers = std::min(job.workers, 8);
        work += job.seconds * job.workers;
        trace.push_back(std::move(job));
      }
      InOrder(&trace);
      const auto result = Simulate(cluster, trace, 40 * 24 * kHour, With(policy));
      double longest = 0;
      for (std::size_t i = 0; i < trace.size(); ++i) {
        ASSERT_GE(result.jobs[i].end_ms, 0) << "job " << i + 1;
        longest = std::max(longest, HoursUntilStart(trace[i], result.jobs[i]));
      }
      EXPECT_LE(longest, 40 + kPatienceHours + 24);
    }
  }
}

// ada's small jobs would use up her limit for ever. After four hours they leave room for the large
// one, once the longest of them has ended.
TEST(LongRun, OwnSmallJobsDoNotUseUpTheLimitForEver) {
  SimulatedCluster cluster = Nodes(4, 4);
  cluster.users["ada"].max_workers = 4;
  Random random(3);
  std::vector<TraceJob> trace;
  for (std::int64_t minute = 0; minute < 3 * 24 * 60; minute += 15) {
    TraceJob job = SmallJob(minute * 60'000, Predictions().front().second, &random);
    job.owner = "ada";
    job.workers = job.min_workers = 1;
    trace.push_back(job);
  }
  TraceJob large = trace[20];
  large.workers = large.min_workers = 4;
  trace.insert(trace.begin() + 21, large);
  const auto result = Simulate(cluster, trace, 20 * 24 * kHour, With(SchedulerSpec()));
  EXPECT_LE(HoursUntilStart(large, result.jobs[21]), kPatienceHours + kLongestSeconds / 3600 + 0.2);
  EXPECT_GT(HoursUntilStart(large, result.jobs[21]), kPatienceHours);  // else this shows nothing
}

}  // namespace
}  // namespace fr
