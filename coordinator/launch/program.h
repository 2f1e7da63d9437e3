#pragma once
// Running other programs to their end: sbatch, scontrol, ssh.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace fr {

struct ProgramOptions {
  std::int64_t timeout_ms = 10'000;                      // then it is killed
  std::string input = {};                                // its standard input
  std::size_t max_output_bytes = std::size_t{16} << 20;  // kept of either output; the rest is read
                                                         // and dropped
  int cancel_fd = -1;  // once there is something to read, the program is killed; -1: none
};

struct ProgramResult {
  int exit_status = 0;     // 128 + signal if a signal ended it
  bool timed_out = false;  // it was killed for that, or was cancelled: exit_status is 137
  bool output_cut = false;
  std::string output;  // standard output
  std::string error;   // standard error
  bool ok() const { return exit_status == 0 && !timed_out; }
};

// Runs words[0], found by PATH, without a shell and in a process group of its own, which is killed
// as a whole after `timeout_ms`. What it leaves in the background is not waited for, even if that
// holds its output open. Any exit status is a result. Thread-safe. Throws Error(kNotFound) when
// there is no such program, Error(kIo) when it cannot be started.
ProgramResult RunProgram(const std::vector<std::string>& words, const ProgramOptions& options = {});

// Why a result is not ok, in one line: "sbatch ended with exit status 1: Invalid partition name",
// "ssh did not end within 5 s". `program`: what it is called in the text.
std::string FailureText(const std::string& program, const ProgramResult& result,
                        const ProgramOptions& options = {});

}  // namespace fr
