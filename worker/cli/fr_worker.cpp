// fr-worker: one MPI rank of a training job.
//
//   mpirun -np N fr-worker --job JOB.yaml [--run-dir DIR]              stand-alone
//   mpirun -np N fr-worker --coordinator ADDR --job-id ID --attempt K  started by the coordinator

#include <cstdio>
#include <exception>

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "common/base/error.h"
#include "common/base/logging.h"
#include "common/base/version.h"
#include "worker/comm/mpi_communicator.h"
#include "worker/train/worker_run.h"

namespace {

void AddOptions(CLI::App& app, fr::WorkerOptions& options) {
  auto* job = app.add_option("--job", options.job_file, "Job file: train without a coordinator");
  app.add_option("--set", options.overrides, "With --job: override a key, e.g. optimizer.lr=0.05")
      ->needs(job);
  app.add_option("--run-dir", options.run_dir,
                 "With --job: where checkpoints and metrics go; a run that lies there is continued "
                 "(default: runs/<name of the job>)")
      ->needs(job);
  auto* coordinator = app.add_option("--coordinator", options.coordinator,
                                     "Address of the coordinator that started this worker")
                          ->excludes(job);
  auto* job_id = app.add_option("--job-id", options.job_id, "With --coordinator: the job");
  auto* attempt = app.add_option("--attempt", options.attempt, "With --coordinator: its attempt");
  coordinator->needs(job_id)->needs(attempt);
}

}  // namespace

int main(int argc, char** argv) {
  fr::MpiSession mpi(&argc, &argv);
  CLI::App app("One rank of a training job; start it under mpirun.", "fr-worker");
  fr::WorkerOptions options;
  AddOptions(app, options);
  app.set_version_flag("--version", fmt::format("fr-worker {}", fr::kVersion));
  fr::MpiCommunicator comm;
  try {
    app.parse(argc, argv);
    if (options.job_file.empty() && options.coordinator.empty()) {
      throw CLI::RequiredError("--job JOB.yaml, or --coordinator ADDR --job-id ID --attempt K,");
    }
  } catch (const CLI::ParseError& error) {
    if (comm.rank() == 0) app.exit(error);
    return error.get_exit_code() == 0 ? 0 : 2;
  }

  fr::InitLogging(fmt::format("rank {}", comm.rank()));
  try {
    return fr::RunWorker(options, comm);
  } catch (const std::exception& error) {
    const int exit_code = fr::ReportFailure(options, comm.rank(), error);
    // The other ranks may wait for this one in a collective: they must end, too.
    fr::MpiSession::Abort(exit_code);
  }
}
