// frctl: shows what the coordinator knows, cancels jobs, pins checkpoints, and says what a job will
// need.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "common/cli/run_command.h"
#include "coordinator/cli/connection_options.h"
#include "coordinator/cli/frctl_commands.h"
#include "coordinator/cli/job_client.h"
#include "coordinator/cli/plan_text.h"
#include "coordinator/cli/watch.h"

namespace {

using fr::JobClient;
using fr::OutputFormat;

struct Options {
  std::string coordinator;
  double timeout_seconds = 10;
  std::string job;
  OutputFormat format = OutputFormat::kTable;
  int limit = 30;
  std::vector<std::string> names;
  std::int64_t after_step = -1;
  fr::LogOptions log;
  std::string reason;
  std::string step;
  fr::PlanOptions plan;
};

// What the chosen subcommand does; returns the exit code.
using Command = std::function<int(JobClient&)>;
using LocalCommand = std::function<int()>;  // needs no coordinator

class Commands {
 public:
  Commands(CLI::App& app, Options& options) : app_(app), options_(options) {}

  // `command` becomes the program's work when the subcommand is given.
  CLI::App* Add(const std::string& name, const std::string& help, Command command) {
    CLI::App* subcommand = app_.add_subcommand(name, help);
    subcommand->callback([this, command = std::move(command)] { chosen_ = command; });
    subcommand->fallthrough();  // --coordinator may stand behind the subcommand, too
    return subcommand;
  }

  CLI::App* AddLocal(const std::string& name, const std::string& help, LocalCommand command) {
    CLI::App* subcommand = app_.add_subcommand(name, help);
    subcommand->callback([this, command = std::move(command)] { chosen_local_ = command; });
    return subcommand;
  }

  void AddJob(CLI::App* subcommand) {
    subcommand->add_option("JOB", options_.job, "job-12, 12, or latest")->required();
  }

  void AddFormat(CLI::App* subcommand, bool csv = false) {
    const std::string known = csv ? "table|json|csv" : "table|json";
    const auto set = [this, csv, known](const std::string& text) {
      if (text == "table") {
        options_.format = OutputFormat::kTable;
      } else if (text == "json") {
        options_.format = OutputFormat::kJson;
      } else if (text == "csv" && csv) {
        options_.format = OutputFormat::kCsv;
      } else {
        throw CLI::ValidationError("--output", fmt::format("'{}' is none of {}", text, known));
      }
    };
    subcommand
        ->add_option_function<std::string>("-o,--output", set, "How to print it; table without it")
        ->type_name(known);
  }

  int Run() const {
    if (chosen_local_) return chosen_local_();
    JobClient client(options_.coordinator, fr::ToMillis(options_.timeout_seconds));
    return chosen_(client);
  }

 private:
  CLI::App& app_;
  Options& options_;
  Command chosen_;
  LocalCommand chosen_local_;
};

int Done(const std::function<void()>& print) {
  print();
  return fr::kExitDone;
}

void AddPinCommands(Commands& commands, Options& options) {
  const auto add = [&](const char* name, const char* help, bool pinned) {
    CLI::App* subcommand = commands.Add(name, help, [&options, pinned](JobClient& client) {
      return Done(
          [&] { PinCheckpoint(client, client.ResolveJob(options.job), options.step, pinned); });
    });
    commands.AddJob(subcommand);
    subcommand->add_option("STEP", options.step, "2000, or latest")->required();
  };
  add("pin", "Keep a checkpoint until it is unpinned", true);
  add("unpin", "Let a checkpoint go when it is none of the latest or best", false);
}

void AddJobCommands(Commands& commands, Options& options) {
  auto* show = commands.Add("show", "One job: state, settings, history", [&](JobClient& client) {
    return Done([&] { PrintJob(client, client.ResolveJob(options.job), options.format); });
  });
  auto* watch = commands.Add(
      "watch", "Follow a job to its end; exit code 0 if it completes", [&](JobClient& client) {
        return WatchJob(client, client.ResolveJob(options.job), fr::WatchOutput::kProgress);
      });
  auto* logs = commands.Add("logs", "The workers' log", [&](JobClient& client) {
    return Done([&] { PrintLogs(client, client.ResolveJob(options.job), options.log); });
  });
  logs->add_flag("-f,--follow", options.log.follow, "Go on until the job has ended");
  logs->add_option("--attempt", options.log.attempt, "Of this attempt; the latest without it")
      ->check(CLI::PositiveNumber);
  logs->add_option("--tail", options.log.tail_bytes, "Only so many bytes before the end")
      ->check(CLI::PositiveNumber);
  auto* metrics = commands.Add("metrics", "The last value of every metric, or all points of some",
                               [&](JobClient& client) {
                                 return Done([&] {
                                   PrintMetrics(client, client.ResolveJob(options.job),
                                                options.names, options.after_step, options.format);
                                 });
                               });
  metrics
      ->add_option("-n,--name", options.names,
                   "All points of this one, e.g. train/loss; train/ for all below it")
      ->allow_extra_args(false);
  metrics->add_option("--after-step", options.after_step, "Only points with a greater step");
  auto* checkpoints =
      commands.Add("checkpoints", "Committed checkpoints of a job", [&](JobClient& client) {
        return Done(
            [&] { PrintCheckpoints(client, client.ResolveJob(options.job), options.format); });
      });
  auto* shards = commands.Add("shards", "Which rank owns which identities", [&](JobClient& client) {
    return Done([&] { PrintShards(client, client.ResolveJob(options.job), options.format); });
  });
  AddPinCommands(commands, options);
  auto* cancel =
      commands.Add("cancel", "End a job, or take it out of the queue", [&](JobClient& client) {
        const std::string job_id = client.ResolveJob(options.job);
        client.Cancel(job_id, options.reason);
        fmt::print(stderr, "{} will end\n", job_id);
        return fr::kExitDone;
      });
  cancel->add_option("--reason", options.reason, "Why, for those who will look at it later");
  for (auto* subcommand : {show, watch, logs, metrics, checkpoints, shards, cancel}) {
    commands.AddJob(subcommand);
  }
  for (auto* subcommand : {show, checkpoints, shards}) commands.AddFormat(subcommand);
  commands.AddFormat(metrics, /*csv=*/true);
}

void AddPlan(Commands& commands, Options& options) {
  auto* plan = commands.AddLocal(
      "plan", "What a job will need: memory, traffic, time. A prediction; needs no coordinator",
      [&] {
        options.plan.json = options.format == OutputFormat::kJson;
        return fr::RunPlan(options.plan);
      });
  plan->add_option("JOB.yaml", options.plan.job_file, "The job file")->required();
  plan->add_option("--set", options.plan.overrides, "Override a key of the file; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  plan->add_option("--identities", options.plan.identities,
                   "Identities of the training set, where it is not here")
      ->check(CLI::PositiveNumber);
  plan->add_option("--images", options.plan.images, "Its images")->check(CLI::PositiveNumber);
  plan->add_option("--machine", options.plan.machine_file,
                   "What a worker's machine can do; CPU cores without it. docs/planning.md has "
                   "the keys")
      ->type_name("FILE.yaml");
  commands.AddFormat(plan);
}

void AddCommands(Commands& commands, Options& options) {
  auto* jobs = commands.Add("jobs", "Jobs, latest first", [&](JobClient& client) {
    return Done([&] { PrintJobs(client, options.limit, options.format); });
  });
  jobs->add_option("--limit", options.limit, "How many at most")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  commands.AddFormat(jobs);
  AddJobCommands(commands, options);
  commands.AddFormat(commands.Add("nodes", "Nodes and their slots", [&](JobClient& client) {
    return Done([&] { PrintNodes(client, options.format); });
  }));
  AddPlan(commands, options);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Shows and cancels the coordinator's jobs, pins their checkpoints, plans new ones.",
               "frctl");
  Options options;
  fr::AddConnectionOptions(app, options.coordinator, options.timeout_seconds);
  Commands commands(app, options);
  AddCommands(commands, options);
  app.require_subcommand(1);
  app.footer(
      "Exit codes: 0 done; 1 no such job, or a watched job did not complete; 2 the command line is "
      "wrong;\n3 the coordinator cannot be reached; 130 Ctrl-C while watching: the job goes on.");
  return fr::RunCommand(app, argc, argv, [&] { return commands.Run(); });
}
