#pragma once
// Starting, watching and ending the process tree of an attempt: mpirun on this machine, which
// reaches other hosts over ssh.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "proto/record.pb.h"

namespace fr {

struct LauncherOptions {
  std::string mpirun = "mpirun";
  std::vector<std::string> mpirun_args;  // further ones
  std::string worker;                    // path of fr-worker
};

struct LaunchRequest {
  std::string job_id;
  int attempt = 0;
  int threads_per_worker = 1;
  std::vector<NodeSlots> slots;
  std::string coordinator;          // address that the workers can reach
  std::filesystem::path directory;  // of the attempt; made here
};

// The files of an attempt, below its directory.
inline constexpr const char* kLogFile = "worker.log";          // what all ranks print
inline constexpr const char* kExitStatusFile = "exit_status";  // once mpirun has ended: its status

// Nothing is kept in memory but what the system keeps anyway: a coordinator that was killed and
// started again asks about the same LaunchRecord and gets the same answers.
class Launcher {
 public:
  explicit Launcher(LauncherOptions options) : options_(std::move(options)) {}

  // Starts mpirun in a session of its own, which outlives this process. Throws Error(kIo).
  LaunchRecord Start(const LaunchRequest& request) const;

  // Whether the attempt's processes still run.
  bool IsRunning(const LaunchRecord& record) const;

  // mpirun's exit status once it has ended (128 + signal if it was killed by one); nothing while it
  // runs, and if it was killed together with its supervisor.
  std::optional<int> ExitStatus(const LaunchRecord& record) const;

  // Asks every process of the attempt to end (SIGTERM), or kills it (SIGKILL). A session that is
  // no more is no error.
  void Signal(const LaunchRecord& record, int signal_number) const;

  // The command line, for the log and for tests.
  std::vector<std::string> CommandLine(const LaunchRequest& request) const;

 private:
  LauncherOptions options_;
};

// The last `max_lines` lines of the attempt's log that say something, for a job's reason.
std::string LogTail(const LaunchRecord& record, int max_lines);

}  // namespace fr
