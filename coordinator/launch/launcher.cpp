#include "coordinator/launch/launcher.h"

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/error.h"
#include "common/base/file.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

// The fields of /proc/PID/stat behind the command's name, which may hold anything: field 3 first.
std::vector<std::string> StatFields(std::int64_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string text((std::istreambuf_iterator<char>(file)), {});
  const std::size_t name_end = text.rfind(')');
  std::vector<std::string> fields;
  if (name_end == std::string::npos) return fields;
  std::istringstream rest(text.substr(name_end + 1));
  for (std::string field; rest >> field;) fields.push_back(field);
  return fields;
}

constexpr std::size_t kState = 0;        // field 3
constexpr std::size_t kSession = 3;      // field 6
constexpr std::size_t kStartTicks = 19;  // field 22

std::uint64_t StartTicks(const std::vector<std::string>& fields) {
  return fields.size() > kStartTicks ? std::strtoull(fields[kStartTicks].c_str(), nullptr, 10) : 0;
}

// The supervisor: a shell in a session of its own. It writes mpirun's exit status where a later
// coordinator finds it, and survives the TERM that ends mpirun. Arguments: directory, command...
constexpr const char* kSupervisor =
    "trap : TERM INT HUP; dir=$1; shift; \"$@\" & child=$!; "
    "while :; do wait $child; status=$?; kill -0 $child 2>/dev/null || break; done; "
    "echo $status >\"$dir/exit_status.partial\"; mv \"$dir/exit_status.partial\" "
    "\"$dir/exit_status\"";

// Starts `words` in a new session, with nothing to read and everything it prints in `log`. Unlike
// fork and exec by hand, posix_spawn is safe in a threaded process, and has the session made when
// it returns.
pid_t Spawn(std::vector<std::string> words, const fs::path& log) {
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);

  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, log.c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  sigset_t to_default;
  sigfillset(&to_default);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &to_default);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  pid_t pid = 0;
  const int failure =
      posix_spawn(&pid, arguments[0], &files, &attributes, arguments.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  if (failure != 0) {
    throw Error(ErrorCode::kIo, fmt::format("{}: cannot be started (log: {}): {}", words[0],
                                            log.string(), ErrnoText(failure)));
  }
  return pid;
}

// Pids of the session that `pid` leads.
std::vector<std::int64_t> SessionMembers(std::int64_t session) {
  std::vector<std::int64_t> members;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename().string();
    std::int64_t pid = 0;
    const auto [end, failed] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (failed != std::errc() || *end != '\0') continue;
    const std::vector<std::string> fields = StatFields(pid);
    if (fields.size() > kSession && fields[kState] != "Z" &&
        fields[kSession] == std::to_string(session)) {
      members.push_back(pid);
    }
  }
  return members;
}

// Whether the session is still the one that was started, not a later one with the same number.
bool IsOurs(const LaunchRecord& record) {
  const std::vector<std::string> leader = StatFields(record.pid());
  // A leader that has gone: its number is not given again while its session has members.
  return leader.empty() || StartTicks(leader) == record.start_ticks();
}

}  // namespace

std::vector<std::string> Launcher::CommandLine(const LaunchRequest& request) const {
  int workers = 0;
  std::string hosts;
  bool only_here = true;
  for (const NodeSlots& slots : request.slots) {
    workers += slots.slots();
    hosts += fmt::format("{}{}:{}", hosts.empty() ? "" : ",", slots.node(), slots.slots());
    only_here = only_here && slots.node() == "localhost";
  }
  std::vector<std::string> command = {options_.mpirun, "-np", std::to_string(workers)};
  const auto add = [&command](std::initializer_list<std::string> arguments) {
    command.insert(command.end(), arguments);
  };
  // Open MPI refuses root unless asked; who runs the coordinator as root has decided already.
  if (geteuid() == 0) add({"--allow-run-as-root"});
  // Slots are the coordinator's to count, and threads are the job's.
  if (only_here) {
    add({"--oversubscribe"});
  } else {
    add({"--host", hosts});
  }
  add({"--bind-to", "none", "-x", fmt::format("OMP_NUM_THREADS={}", request.threads_per_worker)});
  command.insert(command.end(), options_.mpirun_args.begin(), options_.mpirun_args.end());
  add({options_.worker, "--coordinator", request.coordinator, "--job-id", request.job_id,
       "--attempt", std::to_string(request.attempt)});
  return command;
}

LaunchRecord Launcher::Start(const LaunchRequest& request) const {
  MakeDirectories(request.directory);
  const std::vector<std::string> command = CommandLine(request);
  std::vector<std::string> words = {"/bin/sh", "-c", kSupervisor, "fr-attempt",
                                    request.directory.string()};
  words.insert(words.end(), command.begin(), command.end());
  const pid_t pid = Spawn(std::move(words), request.directory / kLogFile);
  LaunchRecord record;
  record.set_pid(pid);
  record.set_start_ticks(StartTicks(StatFields(pid)));
  record.set_directory(request.directory.string());
  for (const NodeSlots& slots : request.slots) *record.add_slots() = slots;
  return record;
}

bool Launcher::IsRunning(const LaunchRecord& record) const {
  // Our own child would otherwise stay as a zombie; after a restart it is no child, and init's.
  waitpid(static_cast<pid_t>(record.pid()), nullptr, WNOHANG);
  return IsOurs(record) && !SessionMembers(record.pid()).empty();
}

std::optional<int> Launcher::ExitStatus(const LaunchRecord& record) const {
  std::ifstream file(fs::path(record.directory()) / kExitStatusFile);
  int status = 0;
  if (!(file >> status)) return std::nullopt;
  return status;
}

void Launcher::Signal(const LaunchRecord& record, int signal_number) const {
  if (!IsOurs(record)) return;
  for (const std::int64_t pid : SessionMembers(record.pid())) {
    kill(static_cast<pid_t>(pid), signal_number);
  }
}

std::string LogTail(const LaunchRecord& record, int max_lines) {
  std::ifstream file(fs::path(record.directory()) / kLogFile, std::ios::binary | std::ios::ate);
  if (!file) return "";
  constexpr std::int64_t kTailBytes = 8192;
  const auto size = static_cast<std::int64_t>(file.tellg());
  file.seekg(std::max<std::int64_t>(0, size - kTailBytes));
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    // mpirun's own frames and advice say nothing about the job.
    if (line.find_first_not_of("- \t\r*") == std::string::npos) continue;
    lines.push_back(line);
  }
  std::string tail;
  const auto first = std::max<std::ptrdiff_t>(0, std::ssize(lines) - max_lines);
  for (auto i = first; i < std::ssize(lines); ++i) {
    if (!tail.empty()) tail += '\n';
    tail += lines[static_cast<std::size_t>(i)];
  }
  return tail;
}

}  // namespace fr
