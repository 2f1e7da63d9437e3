// frctl: shows what the coordinator knows, pauses and cancels jobs, drains nodes, pins checkpoints,
// and says what a job will need.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "common/base/error.h"
#include "common/cli/run_command.h"
#include "coordinator/cli/connection_options.h"
#include "coordinator/cli/frctl_commands.h"
#include "coordinator/cli/job_client.h"
#include "coordinator/cli/plan_text.h"
#include "coordinator/cli/watch.h"
#include "coordinator/jobs/job_state.h"

namespace {

using fr::JobClient;
using fr::OutputFormat;

// A plan needs no coordinator, and does not wait long for one.
constexpr double kPlanTimeoutSeconds = 2;

struct Options {
  std::string coordinator;
  double timeout_seconds = 10;
  std::string job;
  OutputFormat format = OutputFormat::kTable;
  fr::JobListOptions list;
  std::vector<std::string> names;
  std::int64_t after_step = -1;
  fr::LogOptions log;
  std::string reason;
  std::string step;
  std::string node;
  bool evict = false;
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

fr::JobState ParseState(const std::string& name) {
  try {
    return fr::ParseJobState(name);
  } catch (const fr::Error& error) {
    throw CLI::ValidationError("--state", error.what());
  }
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
  for (auto* subcommand : {show, watch, logs, metrics, checkpoints, shards}) {
    commands.AddJob(subcommand);
  }
  for (auto* subcommand : {show, checkpoints, shards}) commands.AddFormat(subcommand);
  commands.AddFormat(metrics, /*csv=*/true);
}

void AddChangingCommands(Commands& commands, Options& options) {
  auto* pause = commands.Add(
      "pause", "Stop a job at a checkpoint until it is resumed", [&](JobClient& client) {
        return Done([&] { PauseJob(client, client.ResolveJob(options.job), options.reason); });
      });
  auto* resume =
      commands.Add("resume", "Put a paused job back into the queue", [&](JobClient& client) {
        return Done([&] { ResumeJob(client, client.ResolveJob(options.job)); });
      });
  auto* cancel =
      commands.Add("cancel", "End a job, or take it out of the queue", [&](JobClient& client) {
        return Done([&] { CancelJob(client, client.ResolveJob(options.job), options.reason); });
      });
  auto* drain = commands.Add(
      "drain", "No new workers on a node; those there go on, or move", [&](JobClient& client) {
        return Done([&] { DrainNode(client, options.node, options.reason, options.evict); });
      });
  drain->add_flag("--evict", options.evict,
                  "Jobs that have workers there stop at a checkpoint and go on elsewhere");
  auto* undrain = commands.Add(
      "undrain", "A drained or cordoned node may have workers again",
      [&](JobClient& client) { return Done([&] { UndrainNode(client, options.node); }); });
  for (auto* subcommand : {pause, resume, cancel}) commands.AddJob(subcommand);
  for (auto* subcommand : {drain, undrain}) {
    subcommand->add_option("NODE", options.node, "Its name; frctl nodes lists them")->required();
  }
  for (auto* subcommand : {pause, cancel, drain}) {
    subcommand->add_option("--reason", options.reason, "Why, for those who will look at it later");
  }
}

void AddPlan(Commands& commands, Options& options) {
  auto* plan = commands.AddLocal(
      "plan", "What a job will need: memory, traffic, time. A prediction; needs no coordinator",
      [&] {
        options.plan.json = options.format == OutputFormat::kJson;
        options.plan.nodes = [&options] {
          const double seconds = std::min(options.timeout_seconds, kPlanTimeoutSeconds);
          return JobClient(options.coordinator, fr::ToMillis(seconds)).Nodes();
        };
        return fr::RunPlan(options.plan);
      });
  plan->fallthrough();  // --coordinator may stand behind it, too
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
    return Done([&] { PrintJobs(client, options.list, options.format); });
  });
  jobs->add_option("--limit", options.list.limit, "How many at most")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  jobs->add_option("--user", options.list.user, "Only this user's");
  jobs->add_option_function<std::vector<std::string>>(
          "--state",
          [&options](const std::vector<std::string>& names) {
            for (const std::string& name : names) options.list.states.push_back(ParseState(name));
          },
          "Only in this state, e.g. running; may be repeated")
      ->type_name("STATE")
      ->allow_extra_args(false);
  commands.AddFormat(jobs);
  AddJobCommands(commands, options);
  AddChangingCommands(commands, options);
  auto* nodes = commands.Add(
      "nodes", "Nodes: how they stand, what they have and who uses it",
      [&](JobClient& client) { return Done([&] { PrintNodes(client, options.format); }); });
  auto* users = commands.Add(
      "users", "Users: their jobs, limits, and what they used lately",
      [&](JobClient& client) { return Done([&] { PrintUsers(client, options.format); }); });
  for (auto* subcommand : {nodes, users}) commands.AddFormat(subcommand);
  AddPlan(commands, options);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Shows the coordinator's jobs, nodes and users; pauses and cancels jobs, pins their "
      "checkpoints, drains nodes, plans new jobs.",
      "frctl");
  Options options;
  fr::AddConnectionOptions(app, options.coordinator, options.timeout_seconds);
  Commands commands(app, options);
  AddCommands(commands, options);
  app.require_subcommand(1);
  app.footer(
      "Exit codes: 0 done; 1 no such job or node, a job that has ended already, or a watched job "
      "did not complete;\n2 the command line is wrong; 3 the coordinator cannot be reached, or "
      "refuses; 130 Ctrl-C while watching: the job goes on.");
  return fr::RunCommand(
      app, argc, argv, [&] { return commands.Run(); }, fr::ExitCodeOfRefusal);
}
