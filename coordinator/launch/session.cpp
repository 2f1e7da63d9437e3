#include "coordinator/launch/session.h"

#include <charconv>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <sstream>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "coordinator/launch/spawn.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

// The fields of /proc/PID/stat behind the command's name, which may hold anything: field 3 first.
constexpr std::size_t kState = 0;        // field 3
constexpr std::size_t kSession = 3;      // field 6
constexpr std::size_t kStartTicks = 19;  // field 22

// Empty where there is no such process.
std::vector<std::string> StatFields(std::int64_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  // A process that ends between opening and reading is an error of reading, which getline, unlike
  // an iterator of the buffer, does not throw.
  std::string text;
  std::getline(file, text, '\0');
  const std::size_t name_end = text.rfind(')');
  std::vector<std::string> fields;
  if (name_end == std::string::npos) return fields;
  std::istringstream rest(text.substr(name_end + 1));
  for (std::string field; rest >> field;) fields.push_back(field);
  if (fields.size() <= kStartTicks) fields.clear();
  return fields;
}

std::optional<std::int64_t> PidOf(const fs::path& entry) {
  const std::string name = entry.filename().string();
  std::int64_t pid = 0;
  const auto [end, failed] = std::from_chars(name.data(), name.data() + name.size(), pid);
  if (failed != std::errc() || *end != '\0') return std::nullopt;
  return pid;
}

std::string Mark(const std::string& directory) {
  return fmt::format("{}={}", kAttemptVariable, directory);
}

bool HasMark(std::int64_t pid, const std::string& directory) {
  std::ifstream file(fmt::format("/proc/{}/environ", pid));
  const std::string mark = Mark(directory);
  for (std::string variable; std::getline(file, variable, '\0');) {
    if (variable == mark) return true;
  }
  return false;
}

}  // namespace

std::int64_t StartSession(std::vector<std::string> words, const fs::path& directory,
                          const fs::path& log) {
  std::string mark = Mark(directory.string());
  std::vector<char*> environment = {mark.data()};
  const std::string prefix = Mark("");
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!std::string_view(*variable).starts_with(prefix)) environment.push_back(*variable);
  }
  environment.push_back(nullptr);

  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, log.c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO);
  const Spawned spawned = Spawn(words, files, POSIX_SPAWN_SETSID, environment.data());
  posix_spawn_file_actions_destroy(&files);
  if (spawned.failure != 0) {
    throw Error(ErrorCode::kIo, fmt::format("{}: cannot be started (log: {}): {}", words[0],
                                            log.string(), ErrnoText(spawned.failure)));
  }
  return spawned.pid;
}

std::uint64_t StartTicks(std::int64_t pid) {
  const std::vector<std::string> fields = StatFields(pid);
  return fields.empty() ? 0 : std::strtoull(fields[kStartTicks].c_str(), nullptr, 10);
}

Sessions::Sessions() {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator("/proc", error)) {
    const std::optional<std::int64_t> pid = PidOf(entry.path());
    if (!pid) continue;
    const std::vector<std::string> fields = StatFields(*pid);
    if (fields.empty()) continue;
    start_ticks_[*pid] = std::strtoull(fields[kStartTicks].c_str(), nullptr, 10);
    if (fields[kState] == "Z") continue;
    members_[std::strtoll(fields[kSession].c_str(), nullptr, 10)].push_back(*pid);
  }
}

std::vector<std::int64_t> Sessions::Members(const LaunchRecord& record) const {
  const auto session = members_.find(record.pid());
  if (session == members_.end()) return {};
  const auto leader = start_ticks_.find(record.pid());
  if (leader != start_ticks_.end()) {
    if (leader->second != record.start_ticks()) return {};
    return session->second;
  }
  // The leader has gone: these may be ours, or what is left of a later session whose leader has
  // gone, too. The mark tells.
  std::vector<std::int64_t> members;
  for (const std::int64_t pid : session->second) {
    if (HasMark(pid, record.directory())) members.push_back(pid);
  }
  return members;
}

}  // namespace fr
