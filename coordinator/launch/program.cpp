#include "coordinator/launch/program.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/file.h"
#include "coordinator/launch/spawn.h"

namespace fr {
namespace {

[[noreturn]] void ThrowIo(const std::string& program, const char* what) {
  throw Error(ErrorCode::kIo,
              fmt::format("{} cannot be started: {}: {}", program, what, ErrnoText()));
}

struct Pipe {
  FileDescriptor read_end, write_end;
};

Pipe MakePipe(const std::string& program) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) ThrowIo(program, "pipe");
  Pipe made{FileDescriptor(ends[0]), FileDescriptor(ends[1])};
  // What is in the pipe is read, never waited for: a grandchild may hold it open for ever.
  fcntl(ends[0], F_SETFL, O_NONBLOCK);
  return made;
}

// A file of its own in memory: unlike a pipe it takes any amount before anybody reads.
FileDescriptor InputFile(const std::string& program, const std::string& input) {
  FileDescriptor file(memfd_create("input", MFD_CLOEXEC));
  if (!file.valid()) ThrowIo(program, "memfd_create");
  WriteAll(file.get(), input, program + ": standard input");
  if (lseek(file.get(), 0, SEEK_SET) != 0) ThrowIo(program, "lseek");
  return file;
}

pid_t Start(std::vector<std::string> words, int input, int output, int error) {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, input, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&files, output, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&files, error, STDERR_FILENO);
  const Spawned spawned = Spawn(words, files, POSIX_SPAWN_SETPGROUP, environ);
  posix_spawn_file_actions_destroy(&files);
  if (spawned.failure == ENOENT) {
    throw Error(
        ErrorCode::kNotFound,
        fmt::format("{}: there is no such program; install it, or give its path", words[0]));
  }
  if (spawned.failure != 0) {
    throw Error(ErrorCode::kIo,
                fmt::format("{} cannot be started: {}", words[0], ErrnoText(spawned.failure)));
  }
  return spawned.pid;
}

// Reads what there is just now; closes the pipe at its end.
void Drain(FileDescriptor* pipe, std::size_t max_bytes, std::string* text, bool* cut) {
  char buffer[16 * 1024];
  while (pipe->valid()) {
    const ssize_t got = read(pipe->get(), buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) return pipe->Close();
    const auto bytes = static_cast<std::size_t>(got);
    const std::size_t kept = std::min(bytes, max_bytes - std::min(max_bytes, text->size()));
    text->append(buffer, kept);
    *cut = *cut || kept < bytes;
  }
}

int Reap(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace

ProgramResult RunProgram(const std::vector<std::string>& words, const ProgramOptions& options) {
  Pipe output = MakePipe(words[0]);
  Pipe error = MakePipe(words[0]);
  const FileDescriptor input = InputFile(words[0], options.input);
  const pid_t pid = Start(words, input.get(), output.write_end.get(), error.write_end.get());
  output.write_end.Close();
  error.write_end.Close();

  ProgramResult result;
  // Not glibc 2.36's pidfd_open, whose header C++ cannot use.
  const FileDescriptor process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!process.valid()) {
    kill(-pid, SIGKILL);
    Reap(pid);
    ThrowIo(words[0], "pidfd_open");
  }
  const std::int64_t deadline_ms = SteadyMillis() + options.timeout_ms;
  for (bool ended = false; !ended;) {
    // Closed pipes are -1, which poll passes over.
    std::array<pollfd, 4> events = {{{process.get(), POLLIN, 0},
                                     {output.read_end.get(), POLLIN, 0},
                                     {error.read_end.get(), POLLIN, 0},
                                     {options.cancel_fd, POLLIN, 0}}};
    const std::int64_t left_ms = std::max<std::int64_t>(0, deadline_ms - SteadyMillis());
    poll(events.data(), events.size(), static_cast<int>(std::min<std::int64_t>(left_ms, 60'000)));
    if (left_ms == 0 || events[3].revents != 0) {
      result.timed_out = true;
      kill(-pid, SIGKILL);
      break;
    }
    ended = events[0].revents != 0;
    Drain(&output.read_end, options.max_output_bytes, &result.output, &result.output_cut);
    Drain(&error.read_end, options.max_output_bytes, &result.error, &result.output_cut);
  }
  result.exit_status = Reap(pid);
  return result;
}

std::string FailureText(const std::string& program, const ProgramResult& result,
                        const ProgramOptions& options) {
  if (result.ok()) return "";
  std::string text = result.timed_out
                         ? fmt::format("{} did not end within {:g} s", program,
                                       static_cast<double>(options.timeout_ms) / 1000)
                         : fmt::format("{} ended with exit status {}", program, result.exit_status);
  // Programs say the cause last, and warnings before it; some of them say it on standard output.
  for (const std::string* said : {&result.error, &result.output}) {
    const std::size_t end = said->find_last_not_of(" \t\r\n");
    if (end == std::string::npos) continue;
    const std::size_t begin = said->rfind('\n', end);
    return text + ": " +
           said->substr(begin == std::string::npos ? 0 : begin + 1,
                        end - (begin == std::string::npos ? 0 : begin + 1) + 1);
  }
  return text;
}

}  // namespace fr
