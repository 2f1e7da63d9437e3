// bench_scheduler month: the same jobs on the same simulated cluster, once with Schedule, once with
// the plain rule (bench/fifo_scheduler.h). Writes what bench/scheduler_plots.py draws.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <CLI/CLI.hpp>

#include "bench/cluster_simulation.h"
#include "bench/fifo_scheduler.h"
#include "bench/measure.h"
#include "bench/scheduler_commands.h"
#include "common/base/error.h"
#include "common/base/random.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kHour = 3'600'000;

struct Setting {
  int nodes = 32;
  int slots = 8;
  int days = 30;
  double load = 0.95;    // work that arrives, as a part of what all slots could do
  double wrong = 2;      // predictions are wrong by a factor like this: one standard deviation
  double elastic = 0.3;  // part of the jobs
  std::uint64_t seed = 1;
  std::string out;
};

// Half as many by night and at weekends.
double RateAt(std::int64_t time_ms) {
  const std::int64_t hour = time_ms / kHour % 24;
  const std::int64_t day = time_ms / kHour / 24 % 7;
  return (hour >= 8 && hour < 20 ? 1.0 : 0.4) * (day < 5 ? 1.0 : 0.5);
}

TraceJob MakeJob(std::int64_t arrival_ms, const Setting& setting, Random* random) {
  static constexpr int kWorkers[] = {1, 1, 1, 1, 2, 2, 4, 4, 8, 8, 16, 32, 64};
  static constexpr int kPriorities[] = {20, 50, 50, 50, 50, 50, 50, 80};
  TraceJob job;
  job.arrival_ms = arrival_ms;
  // Few submit most.
  job.owner = fmt::format("user-{}", static_cast<int>(12 * std::pow(random->Uniform(), 2)));
  job.priority = kPriorities[random->Below(std::ssize(kPriorities))];
  job.workers = kWorkers[random->Below(std::ssize(kWorkers))];
  job.min_workers = job.workers;
  if (job.workers > 1 && random->Chance(setting.elastic)) job.min_workers = job.workers / 2;
  // Median one hour, a tenth over seven.
  job.seconds = std::clamp(3600 * std::exp(1.5 * random->Normal()), 60.0, 3.0 * 86400);
  job.predicted_seconds = job.seconds * std::exp(std::log(setting.wrong) * random->Normal());
  return job;
}

std::vector<TraceJob> MakeTrace(const Setting& setting) {
  Random random(setting.seed);
  // First the jobs, then as many hours as their work needs at this load, day and night.
  const double capacity = setting.load * setting.nodes * setting.slots * setting.days * 86400.0;
  std::vector<TraceJob> trace;
  for (double work = 0; work < capacity;) {
    trace.push_back(MakeJob(0, setting, &random));
    work += trace.back().seconds * trace.back().workers;
  }
  const std::int64_t end_ms = std::int64_t{setting.days} * 24 * kHour;
  for (TraceJob& job : trace) {
    do {
      job.arrival_ms = random.Below(end_ms);
    } while (!random.Chance(RateAt(job.arrival_ms)));
  }
  std::stable_sort(trace.begin(), trace.end(), [](const TraceJob& a, const TraceJob& b) {
    return a.arrival_ms < b.arrival_ms;
  });
  return trace;
}

SimulatedCluster MakeCluster(const Setting& setting) {
  SimulatedCluster cluster;
  for (int i = 0; i < setting.nodes; ++i) {
    NodeView node;
    node.name = fmt::format("node-{:03}", i);
    node.group = fmt::format("rack-{}", i / 8);
    node.slots = setting.slots;
    cluster.nodes.push_back(std::move(node));
  }
  return cluster;
}

// Before its first start, and whenever it had been stopped for others.
double WaitHours(const JobOutcome& outcome) { return outcome.waited_seconds / 3600; }

struct Spread {
  double mean = 0;
  double median = 0;
  double p95 = 0;
  double max = 0;
};

Spread SpreadOf(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const auto at = [&values](double part) {
    return values[static_cast<std::size_t>(part * static_cast<double>(values.size() - 1))];
  };
  return {std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size()),
          at(0.5), at(0.95), at(1)};
}

struct Run {
  std::string name;
  SimulationResult result;
  double seconds = 0;  // that the simulation took
};

// Of the month itself, without the days after it in which the last jobs end.
double Utilisation(const Run& run, const Setting& setting) {
  const auto hours = std::min(run.result.busy.size(), static_cast<std::size_t>(setting.days) * 24);
  return std::accumulate(run.result.busy.begin(),
                         run.result.busy.begin() + static_cast<std::ptrdiff_t>(hours), 0.0) /
         static_cast<double>(hours);
}

void PrintRun(const Run& run, const std::vector<TraceJob>& trace, const Setting& setting) {
  int preemptions = 0;
  int resizes = 0;
  std::int64_t last = 0;
  for (const JobOutcome& job : run.result.jobs) {
    preemptions += job.preemptions;
    resizes += job.resizes;
    last = std::max(last, job.end_ms);
  }
  double work = 0;
  for (const TraceJob& job : trace) work += job.seconds * job.workers;
  double busy = 0;
  for (const double hour : run.result.busy) busy += hour * 3600 * setting.nodes * setting.slots;
  fmt::print(
      "\n{}: {:.1f} % of the slots in use in the month, last job ended after {:.1f} days,\n"
      "{:.2f} % of slot time without progress, {} preemptions, {} resizes, {} rounds in {:.1f} s\n",
      run.name, 100 * Utilisation(run, setting), static_cast<double>(last) / 24 / kHour,
      100 * (1 - work / busy), preemptions, resizes, run.result.rounds, run.seconds);
  fmt::print("  {:<16} {:>6} {:>10} {:>10} {:>10} {:>10}\n", "waiting hours", "jobs", "mean",
             "median", "95 %", "max");
  const auto row = [&](const std::string& name, const std::function<bool(const TraceJob&)>& which) {
    std::vector<double> waits;
    for (std::size_t i = 0; i < trace.size(); ++i) {
      if (which(trace[i])) waits.push_back(WaitHours(run.result.jobs[i]));
    }
    const Spread spread = SpreadOf(waits);
    fmt::print("  {:<16} {:>6} {:>10.2f} {:>10.2f} {:>10.2f} {:>10.2f}\n", name, waits.size(),
               spread.mean, spread.median, spread.p95, spread.max);
  };
  row("all", [](const TraceJob&) { return true; });
  row("1-2 workers", [](const TraceJob& job) { return job.workers <= 2; });
  row("4-8 workers", [](const TraceJob& job) { return job.workers > 2 && job.workers <= 8; });
  row("16-64 workers", [](const TraceJob& job) { return job.workers > 8; });
  for (const int priority : {20, 50, 80}) {
    row(fmt::format("priority {}", priority),
        [priority](const TraceJob& job) { return job.priority == priority; });
  }
}

std::ofstream Open(const fs::path& path) {
  std::ofstream file(path);
  if (!file) {
    throw Error(ErrorCode::kIo, path.string() + ": cannot be written; does its directory exist?");
  }
  return file;
}

void WriteCsv(const std::vector<Run>& runs, const std::vector<TraceJob>& trace,
              const Setting& setting) {
  std::ofstream jobs = Open(fs::path(setting.out) / "jobs.csv");
  fmt::print(jobs, "scheduler,workers,priority,seconds,wait_hours,preemptions,resizes\n");
  std::ofstream hours = Open(fs::path(setting.out) / "utilisation.csv");
  fmt::print(hours, "scheduler,hour,busy\n");
  for (const Run& run : runs) {
    for (std::size_t i = 0; i < trace.size(); ++i) {
      const JobOutcome& job = run.result.jobs[i];
      fmt::print(jobs, "{},{},{},{:.0f},{:.4f},{},{}\n", run.name, trace[i].workers,
                 trace[i].priority, trace[i].seconds, WaitHours(job), job.preemptions, job.resizes);
    }
    for (std::size_t hour = 0; hour < run.result.busy.size(); ++hour) {
      fmt::print(hours, "{},{},{:.4f}\n", run.name, hour, run.result.busy[hour]);
    }
  }
}

int Simulated(const Setting& setting) {
  const std::vector<TraceJob> trace = MakeTrace(setting);
  const SimulatedCluster cluster = MakeCluster(setting);
  const std::int64_t until_ms = std::int64_t{setting.days} * 20 * 24 * kHour;
  const SchedulerSpec policy;
  fmt::print("{} jobs of {} days on {} nodes of {} slots, load {}\n", trace.size(), setting.days,
             setting.nodes, setting.slots, setting.load);
  std::vector<Run> runs = {{"plain", {}, 0}, {"Schedule", {}, 0}};
  runs[0].seconds =
      Seconds([&] { runs[0].result = Simulate(cluster, trace, until_ms, ScheduleFifo); });
  runs[1].seconds = Seconds([&] {
    runs[1].result = Simulate(cluster, trace, until_ms, [&policy](const ClusterView& view) {
      return Schedule(view, policy);
    });
  });
  for (const Run& run : runs) PrintRun(run, trace, setting);
  if (!setting.out.empty()) WriteCsv(runs, trace, setting);
  return 0;
}

}  // namespace

void AddMonthCommand(CLI::App* app, std::function<int()>* command) {
  const auto setting = std::make_shared<Setting>();
  CLI::App* month = app->add_subcommand("month", "A month of jobs, simulated");
  month->add_option("--nodes", setting->nodes)->capture_default_str();
  month->add_option("--slots", setting->slots, "of a node")->capture_default_str();
  month->add_option("--days", setting->days)->capture_default_str();
  month->add_option("--load", setting->load, "work that arrives, as a part of what slots can do")
      ->capture_default_str();
  month->add_option("--wrong", setting->wrong, "predictions are wrong by a factor like this")
      ->capture_default_str();
  month->add_option("--elastic", setting->elastic, "part of the jobs that are elastic")
      ->capture_default_str();
  month->add_option("--seed", setting->seed)->capture_default_str();
  month->add_option("--out", setting->out, "directory for jobs.csv and utilisation.csv");
  month->callback([setting, command] { *command = [setting] { return Simulated(*setting); }; });
}

}  // namespace fr
