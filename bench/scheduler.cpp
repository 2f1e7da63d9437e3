// The coordinator, measured.
//
//   bench_scheduler round        one decision for thousands of waiting jobs and a full cluster
//   bench_scheduler month        a month of jobs, simulated: waiting times and utilisation
//   bench_scheduler submissions  durable submissions to a real coordinator
//   bench_scheduler restart      a coordinator's start with many jobs that have ended
//
// --help of each says what can be set. docs/scheduling.md has the figures.

#include <functional>

#include <CLI/CLI.hpp>

#include "bench/scheduler_commands.h"
#include "common/cli/run_command.h"

int main(int argc, char** argv) {
  CLI::App app("Measures the coordinator.", "bench_scheduler");
  std::function<int()> command;
  fr::AddRoundCommand(&app, &command);
  fr::AddMonthCommand(&app, &command);
  fr::AddSubmissionsCommand(&app, &command);
  fr::AddRestartCommand(&app, &command);
  app.require_subcommand(1);
  return fr::RunCommand(app, argc, argv, [&command] { return command(); });
}
