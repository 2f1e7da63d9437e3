#pragma once
// Work in a process of its own that is killed in the middle, as by the power going.

#include <cstdint>
#include <functional>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace fr {

// Whether `work` came to its end in a child process. An exception is no end.
inline bool RunInChild(const std::function<void()>& work) {
  const pid_t child = fork();
  if (child == 0) {
    try {
      work();
    } catch (...) {
      _exit(1);
    }
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// The same, but the system kills the child (SIGXFSZ) as soon as a file would get longer than
// `bytes`: what fits is written before, so that the file ends in the middle of anything.
inline bool RunWithFilesUpTo(std::uint64_t bytes, const std::function<void()>& work) {
  return RunInChild([&] {
    const rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    const rlimit limit = {bytes, bytes};
    setrlimit(RLIMIT_FSIZE, &limit);
    work();
  });
}

}  // namespace fr
