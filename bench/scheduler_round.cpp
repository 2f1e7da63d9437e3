// bench_scheduler round: how long one decision takes, beside that of the plain rule
// (bench/fifo_scheduler.h), which looks no further than to the first job that does not fit; and how
// long it takes to make the scheduler's view from the coordinator's records, as each round does.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "bench/fifo_scheduler.h"
#include "bench/measure.h"
#include "bench/scheduler_commands.h"
#include "common/base/random.h"
#include "coordinator/jobs/job_view.h"
#include "coordinator/scheduler/scheduler.h"

namespace fr {
namespace {

struct Setting {
  int waiting = 10'000;
  int nodes = 1'000;
  int slots = 8;
  double full = 0.97;  // of the slots, about
  std::int64_t largest = 512;
  int rounds = 30;
  std::uint64_t seed = 1;
};

constexpr std::int64_t kNow = std::int64_t{1} << 40;
constexpr std::int64_t kHour = 3'600'000;

NodeView MakeNode(int number, const Setting& setting) {
  NodeView node;
  node.name = fmt::format("node-{:04}", number);
  node.group = fmt::format("rack-{:02}", number / 20);
  if (number % 4 == 0) node.labels.push_back("a100");
  if (number % 10 == 0) node.labels.push_back("nvme");
  node.slots = setting.slots;
  node.gpus = number % 2 == 0 ? setting.slots : 0;
  node.cpus = 8 * setting.slots;
  node.memory_bytes = std::int64_t{64} * setting.slots << 30;
  return node;
}

// Sizes as clusters see them: mostly small, a few with hundreds of workers.
JobView MakeJob(int number, const Setting& setting, Random* random) {
  JobView job;
  job.number = number;
  job.owner = fmt::format("user-{}", random->Below(50));
  job.priority = static_cast<int>(10 * random->Below(10));
  job.workers = static_cast<int>(std::min<std::int64_t>(
      setting.largest,
      std::int64_t{1} << std::min<std::int64_t>(random->Below(6) * random->Below(3), 9)));
  job.min_workers = random->Chance(0.3) ? (job.workers + 1) / 2 : job.workers;
  job.cpus_per_worker = 1 + static_cast<int>(random->Below(8));
  job.takes_gpus = random->Chance(0.5);
  if (random->Chance(0.2)) job.labels.push_back("a100");
  if (random->Chance(0.1)) job.labels.push_back("nvme");
  const std::int64_t bytes = (2 + random->Below(60)) << 30;
  for (int workers = job.min_workers; workers <= job.workers; ++workers) {
    job.worker_bytes.push_back(bytes - workers * (std::int64_t{1} << 20));
  }
  job.preemptible = random->Chance(0.9);
  job.waiting_since_ms = kNow - random->Below(100 * kHour);
  if (random->Chance(0.8)) job.seconds_left = random->Uniform(60, 200'000);
  return job;
}

// The next slot that is free.
struct Slot {
  int node = 0;
  int used = 0;  // of the node
};

// Puts the job on slots from `*next` on, as many as it needs.
void Run(const Setting& setting, Random* random, Slot* next, JobView* job) {
  job->takes_gpus = false;
  job->labels.clear();
  int left = job->workers;
  while (left > 0 && next->node < setting.nodes) {
    const int workers = std::min(left, setting.slots - next->used);
    NodeSlots& slots = job->placement.emplace_back();
    slots.set_node(fmt::format("node-{:04}", next->node));
    slots.set_slots(workers);
    left -= workers;
    next->used += workers;
    if (next->used == setting.slots) *next = {next->node + 1, 0};
  }
  job->workers -= left;
  job->min_workers = std::min(job->min_workers, job->workers);
  job->started_ms = kNow - random->Below(50 * kHour);
  job->waiting_since_ms = job->started_ms - random->Below(50 * kHour);
  job->unsaved_seconds = random->Uniform(0, 3600);
}

ClusterView MakeView(const Setting& setting) {
  Random random(setting.seed);
  ClusterView view;
  view.now_ms = kNow;
  for (int i = 0; i < setting.nodes; ++i) view.nodes.push_back(MakeNode(i, setting));
  for (int user = 0; user < 50; ++user) {
    view.users[fmt::format("user-{}", user)] = {random.Uniform(0, 1e8), 1, user % 10 ? 0 : 512};
  }
  int number = 0;
  for (Slot next; next.node < setting.nodes;) {
    if (!random.Chance(setting.full)) {
      next = {next.node + 1, 0};
      continue;
    }
    JobView job = MakeJob(++number, setting, &random);
    Run(setting, &random, &next, &job);
    view.jobs.push_back(std::move(job));
  }
  for (int i = 0; i < setting.waiting; ++i)
    view.jobs.push_back(MakeJob(++number, setting, &random));
  return view;
}

// What the coordinator keeps of such a job.
Job RecordOf(const JobView& view) {
  Job job;
  JobRecord& record = job.record;
  record.set_number(view.number);
  record.set_id(JobId(view.number));
  record.set_owner(view.owner);
  record.set_state(view.placement.empty() ? JobState::PENDING : JobState::RUNNING);
  record.set_waiting_since_ms(view.waiting_since_ms);
  record.mutable_spec()->set_priority(view.priority);
  Resources& resources = *record.mutable_spec()->mutable_resources();
  resources.set_workers(view.workers);
  resources.set_min_workers(view.min_workers);
  resources.set_threads_per_worker(view.cpus_per_worker);
  resources.set_device(view.takes_gpus ? Resources::gpu : Resources::cpu);
  resources.set_preemptible(view.preemptible);
  resources.mutable_labels()->Assign(view.labels.begin(), view.labels.end());
  record.mutable_demand()->mutable_worker_bytes()->Assign(view.worker_bytes.begin(),
                                                          view.worker_bytes.end());
  if (view.seconds_left) {
    record.mutable_demand()->set_job_seconds(static_cast<std::int64_t>(*view.seconds_left));
  }
  if (view.placement.empty()) return job;
  record.set_attempt_started_ms(view.started_ms);
  job.last_checkpoint_ms = kNow - static_cast<std::int64_t>(1000 * view.unsaved_seconds);
  record.mutable_launch()->mutable_slots()->Assign(view.placement.begin(), view.placement.end());
  return job;
}

std::vector<JobView> ViewsOf(const std::map<std::int64_t, Job>& jobs) {
  std::vector<JobView> views;
  for (const auto& [number, job] : jobs) views.push_back(ViewOf(job, true, kNow));
  return views;
}

struct Times {
  std::string name;
  std::vector<double> seconds;
  Decisions decisions;
};

void Print(const Times& times, double reference) {
  const double median = Median(times.seconds);
  fmt::print("{:<22} {:>9.2f} {:>9.2f} {:>10.2f} {:>8} {:>8} {:>8}\n", times.name, 1e3 * median,
             1e3 * *std::max_element(times.seconds.begin(), times.seconds.end()),
             median / reference, times.decisions.starts.size(), times.decisions.yields.size(),
             times.decisions.waits.size());
}

int Measure(const Setting& setting) {
  ClusterView view = MakeView(setting);
  std::map<std::int64_t, Job> records;
  for (const JobView& job : view.jobs) records.emplace(job.number, RecordOf(job));
  const SchedulerSpec policy;
  Times ours{"Schedule", {}, {}};
  Times plain{"plain head of line", {}, {}};
  Times views{"views of the records", {}, {}};
  // They take turns, so that the machine's moods hit both.
  for (int round = 0; round < setting.rounds; ++round) {
    plain.seconds.push_back(Seconds([&] { plain.decisions = ScheduleFifo(view); }));
    views.seconds.push_back(Seconds([&] { view.jobs = ViewsOf(records); }));
    ours.seconds.push_back(Seconds([&] { ours.decisions = Schedule(view, policy); }));
  }
  std::int64_t used = 0;
  std::int64_t running = 0;
  for (const JobView& job : view.jobs) {
    running += job.placement.empty() ? 0 : 1;
    for (const NodeSlots& slots : job.placement) used += slots.slots();
  }
  fmt::print("{} jobs wait, {} run on {} of {} slots of {} nodes\n", setting.waiting, running, used,
             std::int64_t{setting.nodes} * setting.slots, setting.nodes);
  fmt::print("{:<22} {:>9} {:>9} {:>10} {:>8} {:>8} {:>8}\n", "", "median ms", "max ms", "of plain",
             "starts", "yields", "waits");
  const double reference = Median(plain.seconds);
  Print(plain, reference);
  Print(ours, reference);
  Print(views, reference);
  return 0;
}

}  // namespace

void AddRoundCommand(CLI::App* app, std::function<int()>* command) {
  const auto setting = std::make_shared<Setting>();
  CLI::App* round = app->add_subcommand("round", "One decision, beside the plain rule's");
  round->add_option("--waiting", setting->waiting, "jobs that wait")->capture_default_str();
  round->add_option("--nodes", setting->nodes)->capture_default_str();
  round->add_option("--slots", setting->slots, "of a node")->capture_default_str();
  round->add_option("--full", setting->full, "part of the nodes that are in use")
      ->capture_default_str();
  round->add_option("--largest", setting->largest, "workers of a job")->capture_default_str();
  round->add_option("--rounds", setting->rounds)->capture_default_str();
  round->add_option("--seed", setting->seed)->capture_default_str();
  round->callback([setting, command] { *command = [setting] { return Measure(*setting); }; });
}

}  // namespace fr
