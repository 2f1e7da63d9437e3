// fr-submit: checks a job file and hands it to the coordinator.

#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "common/base/error.h"
#include "common/cli/run_command.h"
#include "common/config/job_config.h"
#include "coordinator/cli/connection_options.h"
#include "coordinator/cli/job_client.h"
#include "coordinator/cli/plan_text.h"
#include "coordinator/cli/watch.h"

namespace {

struct Options {
  std::string job_file;
  std::vector<std::string> overrides;
  std::string coordinator;
  double timeout_seconds = 10;
  bool dry_run = false;
  bool wait = false;
  bool follow = false;
  bool remote_paths = false;
  fr::DataFacts facts;  // in place of what the training set says
};

void AddOptions(CLI::App& app, Options& options) {
  app.add_option("JOB.yaml", options.job_file, "The job file; docs/job-file.md describes it")
      ->required();
  app.add_option("--set", options.overrides,
                 "Override a key of the file, e.g. --set optimizer.lr=0.05; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  app.add_flag("--dry-run", options.dry_run,
               "Only check the file and print what the job would do and need; needs no coordinator "
               "(frctl plan can do more)");
  app.add_flag("--wait", options.wait, "Return when the job has ended");
  app.add_flag("--follow", options.follow, "Like --wait, with a line that shows the progress");
  app.add_flag("--remote-paths", options.remote_paths,
               "Do not look for the job's data here: its paths are those of the workers' machines");
  app.add_option("--identities", options.facts.identities,
                 "Identities of the training set, where it is not here: the queue then knows how "
                 "much memory the head takes")
      ->check(CLI::PositiveNumber);
  app.add_option("--images", options.facts.images,
                 "Its images: the queue then knows about how long the job takes")
      ->check(CLI::PositiveNumber);
  fr::AddConnectionOptions(app, options.coordinator, options.timeout_seconds);
  app.footer(
      "The job's id is all that is printed on standard output.\n"
      "Exit codes: 0 submitted (with --wait and --follow: completed); 1 the job failed or was "
      "cancelled;\n2 the file or the command line is wrong, or the job could never start on the "
      "coordinator's nodes;\n3 the coordinator cannot be reached, or refuses for now (too many "
      "jobs of this user); 130 Ctrl-C: the job goes on.");
}

fr::DataFacts FactsOf(const Options& options, const fr::JobSpec& spec) {
  fr::DataFacts facts = options.facts;
  if (facts.identities && facts.images) return facts;
  const fr::DataFacts read = fr::ReadDataFacts(spec.data().train());
  if (!facts.identities) facts.identities = read.identities;
  if (!facts.images) facts.images = read.images;
  return facts;
}

int Submit(const Options& options) {
  const fr::JobConfig config =
      fr::LoadJobConfig(options.job_file, options.overrides,
                        options.remote_paths ? fr::PathCheck::kIgnore : fr::PathCheck::kMustExist);
  if (!config.diagnostics.empty()) {
    fmt::print(stderr, "{}", fr::FormatDiagnostics(config.diagnostics));
    return fr::kExitInvalid;
  }
  const fr::DataFacts facts = FactsOf(options, config.spec);
  if (options.dry_run) {
    const fr::MachineModel machine;
    fmt::print(stderr, "{} is right; this is what it asks for (nothing was submitted):\n{}",
               options.job_file,
               fr::DescribePlan(config.spec, facts, machine, fr::GpuOfMachine(machine)));
    return fr::kExitDone;
  }
  fr::JobClient client(options.coordinator, fr::ToMillis(options.timeout_seconds));
  const std::string job_id = client.Submit(config, facts);
  fmt::print("{}\n", job_id);
  std::fflush(stdout);
  if (!options.wait && !options.follow) return fr::kExitDone;
  return fr::WatchJob(client, job_id,
                      options.follow ? fr::WatchOutput::kProgress : fr::WatchOutput::kQuiet);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Submits a training job to the coordinator.", "fr-submit");
  Options options;
  AddOptions(app, options);
  return fr::RunCommand(
      app, argc, argv, [&options] { return Submit(options); }, fr::ExitCodeOfRefusal);
}
