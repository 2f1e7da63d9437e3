#pragma once
// One rank's whole road: assignment, data, shard plan, training, last words.

#include <exception>
#include <string>
#include <vector>

namespace fr {

class MpiCommunicator;

struct WorkerOptions {
  // Stand-alone.
  std::string job_file;
  std::vector<std::string> overrides;  // "a.b=value"
  std::string run_dir;                 // empty: runs/<name of the job>
  // Under a coordinator.
  std::string coordinator;  // its RPC address
  std::string job_id;
  int attempt = 0;
};

// Runs this rank to its end and returns the process's exit code: 0, or 2 after the mistakes of a
// job file were printed. Collective. Throws Error for everything else that ends the run.
int RunWorker(const WorkerOptions& options, MpiCommunicator& comm);

// Logs why this rank fails and, if another attempt would fail likewise, tells the coordinator so.
// Returns the exit code. Not collective: the other ranks may be anywhere.
int ReportFailure(const WorkerOptions& options, int rank, const std::exception& error);

}  // namespace fr
