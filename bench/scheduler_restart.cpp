// bench_scheduler restart: from the start of fr-coordinator until it is ready, with many jobs that
// have ended and some that wait, next to reading every job and its transitions, which a coordinator
// did before the store had an index.

#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "bench/coordinator_process.h"
#include "bench/measure.h"
#include "bench/scheduler_commands.h"
#include "common/base/temporary_directory.h"
#include "common/cli/run_command.h"
#include "common/store/run_store.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

struct Setting {
  std::int64_t jobs = 100'000;
  std::int64_t waiting = 100;
  int rounds = 5;
  std::string directory;  // "": where temporary files go
};

JobRecord Record(std::int64_t number, JobState state) {
  JobRecord record;
  record.set_number(number);
  record.set_id(fmt::format("job-{}", number));
  JobSpec& spec = *record.mutable_spec();
  spec.set_name("ms1m-r50-arcface");
  spec.mutable_resources()->set_workers(1);
  spec.mutable_data()->set_train("/data/faces_ms1m_112x112");
  for (const char* set : {"lfw", "cfp_fp", "agedb_30"}) spec.mutable_data()->add_validation(set);
  record.set_state(state);
  record.set_reason("20 epochs");
  record.set_submitted_ms(1'700'000'000'000 + number);
  record.set_started_ms(record.submitted_ms() + 1'000);
  record.set_ended_ms(record.submitted_ms() + 2'000);
  record.set_run_dir(fmt::format("/srv/fr/jobs/job-{}", number));
  record.set_submitter("ada@lab");
  record.set_owner("ada");
  record.mutable_progress()->set_step(360'000);
  return record;
}

// A job with what it leaves behind: its file, transitions, a checkpoint, the last points of
// metrics.
void PutJob(std::int64_t number, JobState state, StoreBatch* batch) {
  JobRecord record = Record(number, state);
  Transition transition;
  transition.set_reason("4 workers, rank 0 on node7, from the beginning");
  const bool waits = state == JobState::PENDING;
  for (int i = 0; i < (waits ? 1 : 4); ++i) batch->PutTransition(number, i, transition);
  record.set_transitions(waits ? 1 : 4);
  batch->PutJob(record);
  batch->PutJobFile(number, std::string(1500, '#'));
  batch->PutSubmissionKey(fmt::format("key-{}", number), number);
  if (waits) return;
  CheckpointManifest manifest;
  manifest.set_step(360'000);
  manifest.set_directory(record.run_dir() + "/checkpoints/360000");
  batch->PutCheckpoint(number, manifest);
  MetricPoint point;
  for (const char* name : {"train/loss", "train/lr", "train/images_per_second", "eval/lfw"}) {
    point.set_name(name);
    point.set_step(360'000);
    batch->PutMetric(number, point);
  }
}

void FillStore(const Setting& setting, const fs::path& directory) {
  fs::create_directories(directory);
  RunStore store(directory);
  StoreBatch batch;
  NodeRecord node;  // so that those that wait go on waiting
  node.set_name("localhost");
  node.set_drained(true);
  batch.PutNode(node);
  const std::int64_t all = setting.jobs + setting.waiting;
  for (std::int64_t number = 1; number <= all; ++number) {
    PutJob(number, number <= setting.jobs ? JobState::COMPLETED : JobState::PENDING, &batch);
    if (number % 1000 != 0) continue;
    store.Commit(std::move(batch));
    batch = StoreBatch();
  }
  store.Commit(std::move(batch));
}

void ReadEverything(const fs::path& directory) {
  const RunStore store(directory);
  JobFilter all;
  all.limit = std::numeric_limits<int>::max();
  for (const JobRecord& job : store.Jobs(all).jobs) store.Transitions(job.number());
}

void Run(const Setting& setting) {
  if (!setting.directory.empty()) setenv("TMPDIR", setting.directory.c_str(), 1);
  const TemporaryDirectory directory;
  const fs::path store = CoordinatorProcess::StoreDirectory(directory.path());
  FillStore(setting, store);
  fmt::print("{} jobs that have ended, {} that wait; files in the page cache\n", setting.jobs,
             setting.waiting);
  // Only the first start finds what the last writer left in the write-ahead log.
  CoordinatorProcess coordinator(directory.path());
  const double first = coordinator.Start();
  std::vector<double> later;
  std::vector<double> reading;
  for (int round = 0; round < setting.rounds; ++round) {
    coordinator.Kill();
    reading.push_back(Seconds([&] { ReadEverything(store); }));
    later.push_back(coordinator.Start());
  }
  const double reference = Median(reading);
  fmt::print("{:<46} {:>7.3f} s\n", "reading all jobs and transitions (reference)", reference);
  fmt::print("{:<46} {:>7.3f} s {:>7.2f}x\n", "fr-coordinator until /readyz: first", first,
             reference / first);
  fmt::print("{:<46} {:>7.3f} s {:>7.2f}x\n", "fr-coordinator until /readyz: later, median",
             Median(later), reference / Median(later));
}

}  // namespace

void AddRestartCommand(CLI::App* app, std::function<int()>* command) {
  const auto setting = std::make_shared<Setting>();
  CLI::App* restart = app->add_subcommand("restart", "A start with many jobs that have ended");
  restart->add_option("--jobs", setting->jobs, "that have ended")->capture_default_str();
  restart->add_option("--waiting", setting->waiting, "jobs in the queue")->capture_default_str();
  restart->add_option("--rounds", setting->rounds, "of which the median counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  restart->add_option("--directory", setting->directory, "on the disk that is to be measured");
  restart->callback([setting, command] {
    *command = [setting] {
      Run(*setting);
      return kExitDone;
    };
  });
}

}  // namespace fr
