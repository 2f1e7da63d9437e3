#pragma once
// Processes of this machine that were started together: a session, and the mark that its processes
// carry in their environment.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "proto/record.pb.h"

namespace fr {

// Every process of an attempt has it in its environment: FR_ATTEMPT=<directory of the attempt>.
inline constexpr const char* kAttemptVariable = "FR_ATTEMPT";

// Starts `words`, found by PATH, in a session of its own that outlives this process, with nothing
// to read, everything it prints appended to `log`, and the mark of `directory`. Returns the pid.
// Throws Error(kIo).
std::int64_t StartSession(std::vector<std::string> words, const std::filesystem::path& directory,
                          const std::filesystem::path& log);

// Field 22 of /proc/PID/stat: with the pid it names a process for good. 0: there is none.
std::uint64_t StartTicks(std::int64_t pid);

// All processes of this machine at one moment.
class Sessions {
 public:
  // Reads /proc.
  Sessions();

  // Pids of the session that `record` (pid, start_ticks, directory) names, without those that have
  // ended and were not reaped. Never those of a later session that was given the same number.
  std::vector<std::int64_t> Members(const LaunchRecord& record) const;

 private:
  std::map<std::int64_t, std::uint64_t> start_ticks_;          // of every process, by pid
  std::map<std::int64_t, std::vector<std::int64_t>> members_;  // by session; those that live
};

}  // namespace fr
