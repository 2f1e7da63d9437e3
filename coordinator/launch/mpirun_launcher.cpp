#include "coordinator/launch/mpirun_launcher.h"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/logging.h"
#include "coordinator/launch/attempt_files.h"
#include "coordinator/launch/mpirun_command.h"
#include "coordinator/launch/mpirun_log.h"
#include "coordinator/launch/session.h"
#include "coordinator/launch/ssh.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

// Behind the claim's function. Arguments: directory, command... The claim says "PID START_TICKS".
constexpr const char* kSupervisor = R"sh(trap : TERM INT HUP
dir=$1; shift
read -r stat </proc/$$/stat
twentieth() { shift 19; echo "$1"; }
fr_claim "$dir" "$$ $(twentieth ${stat##*) })" || exit 0
"$@" & child=$!
while :; do wait $child; status=$?; kill -0 $child 2>/dev/null || break; done
echo $status >"$dir/exit_status.partial"; mv "$dir/exit_status.partial" "$dir/exit_status"
)sh";

// For people who want to see what becomes of it.
std::string AsTyped(const std::vector<std::string>& command) {
  std::string typed;
  for (const std::string& word : command) {
    typed += ShellQuoted(word);
    typed += &word == &command.back() ? '\n' : ' ';
  }
  return typed;
}

std::int64_t ModifiedMs(const fs::path& path) {
  struct stat status = {};
  if (stat(path.c_str(), &status) != 0) return UnixMillis();
  return std::int64_t{status.st_mtim.tv_sec} * 1000 + status.st_mtim.tv_nsec / 1'000'000;
}

LaunchRecord RecordOf(const LaunchRequest& request, std::int64_t pid, std::uint64_t start_ticks) {
  LaunchRecord record;
  record.set_pid(pid);
  record.set_start_ticks(start_ticks);
  record.set_directory(request.directory.string());
  record.mutable_slots()->Assign(request.slots.begin(), request.slots.end());
  return record;
}

void CheckNodes(const CoordinatorSpec& spec) {
  for (const NodeSpec& node : spec.nodes()) {
    if (node.name() == kThisMachine) continue;
    if (spec.launcher() == LauncherKind::local) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("nodes: {}: launcher local starts workers on localhost only; say "
                              "launcher: hosts to reach others over ssh",
                              node.name()));
    }
    if (spec.rpc().starts_with("tcp://127.") || spec.rpc().starts_with("tcp://localhost:") ||
        spec.rpc().starts_with("tcp://[::1]:")) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("rpc: {}: workers on {} cannot reach that; say tcp://*:PORT, or an "
                              "address that they see this machine by",
                              spec.rpc(), node.name()));
    }
  }
}

std::vector<std::string> OtherHosts(const CoordinatorSpec& spec) {
  std::vector<std::string> hosts;
  for (const NodeSpec& node : spec.nodes()) {
    if (node.name() != kThisMachine) hosts.push_back(node.name());
  }
  return hosts;
}

}  // namespace

MpirunLauncher::MpirunLauncher(const CoordinatorSpec& spec, std::string worker)
    : spec_(spec), worker_(std::move(worker)), this_machine_(LookAtThisMachine()) {
  CheckNodes(spec_);
  const std::vector<std::string> hosts = OtherHosts(spec_);
  if (hosts.empty()) return;
  CheckMpirunAgent(spec_);
  hosts_ = std::make_unique<HostWatch>(hosts, spec_.ssh());
}

LaunchRecord MpirunLauncher::Start(const LaunchRequest& request) {
  MakeDirectories(request.directory);
  std::vector<std::string> words = {"/bin/sh", "-c", ClaimScript() + kSupervisor, "fr-attempt",
                                    request.directory.string()};
  const std::vector<std::string> command = MpirunCommand(spec_, worker_, request);
  WriteFileUnsynced(request.directory / kCommandFile, AsTyped(command));
  words.insert(words.end(), command.begin(), command.end());
  const std::int64_t pid =
      StartSession(std::move(words), request.directory, request.directory / kLogFile);
  LaunchRecord record = RecordOf(request, pid, StartTicks(pid));
  record.set_started_ms(UnixMillis());
  return record;
}

std::optional<LaunchRecord> MpirunLauncher::Recover(const LaunchRequest& request) {
  const std::optional<std::string> owner = ClaimVoid(request.directory);
  if (!owner) return std::nullopt;
  long long pid = 0;
  unsigned long long start_ticks = 0;
  if (std::sscanf(owner->c_str(), "%lld %llu", &pid, &start_ticks) != 2) {  // NOLINT(cert-err34-c)
    throw Error(ErrorCode::kUnavailable,
                fmt::format("{}: '{}' is no claim of this launcher; if its attempt does not run, "
                            "write void into it",
                            (request.directory / kClaimFile).string(), *owner));
  }
  LaunchRecord record = RecordOf(request, pid, start_ticks);
  record.set_started_ms(ModifiedMs(request.directory / kClaimFile));
  return record;
}

std::vector<AttemptStatus> MpirunLauncher::Look(const std::vector<LaunchRecord>& records) {
  // Our own children would otherwise stay as zombies; after a restart they are init's.
  for (const LaunchRecord& record : records) {
    waitpid(static_cast<pid_t>(record.pid()), nullptr, WNOHANG);
  }
  const Sessions sessions;
  std::vector<AttemptStatus> statuses;
  statuses.reserve(records.size());
  for (const LaunchRecord& record : records) {
    if (sessions.Members(record).empty()) {
      statuses.push_back(StatusOfEnded(record));
    } else {
      statuses.emplace_back().phase = AttemptPhase::kRunning;
    }
  }
  return statuses;
}

// mpirun ends workers on other hosts by way of its daemons there, which may have died, or not have
// noticed yet: unless all went well it is ended there for certain, before anybody starts the next
// attempt.
AttemptStatus MpirunLauncher::StatusOfEnded(const LaunchRecord& record) {
  AttemptStatus status;
  status.phase = AttemptPhase::kEnded;
  status.exit_status = ExitStatus(record.directory());
  if (status.exit_status == 0) return status;
  const MpirunEnd end =
      ReadMpirunEnd(LogEnd(record.directory()), {record.slots().begin(), record.slots().end()});
  status.reason = end.reason;
  if (hosts_ == nullptr) return status;  // no choice of nodes, so none is to blame
  status.failed_nodes = end.nodes;
  status.nodes_lost = end.nodes_lost;
  const Sweeping sweeping = SweepOnce(record);
  if (sweeping.is_under_way) {
    status = AttemptStatus();
    status.phase = AttemptPhase::kRunning;
    status.reason = "what is left of it on its hosts is being ended";
    return status;
  }
  if (sweeping.unreachable.empty()) return status;
  // They are to blame, whatever their absence has brought about elsewhere.
  if (!status.nodes_lost) status.failed_nodes.clear();
  status.nodes_lost = true;
  for (const std::string& node : sweeping.unreachable) {
    const auto& known = status.failed_nodes;
    if (std::find(known.begin(), known.end(), node) == known.end()) {
      status.failed_nodes.push_back(node);
    }
  }
  status.reason += fmt::format("{}no answer from {}", status.reason.empty() ? "" : "; ",
                               fmt::join(sweeping.unreachable, ", "));
  return status;
}

// Sweeps those hosts of an attempt that have not been swept for it, and says how that stands.
MpirunLauncher::Sweeping MpirunLauncher::SweepOnce(const LaunchRecord& record) {
  Sweeping sweeping;
  for (const NodeSlots& slots : record.slots()) {
    HostWatch::Swept swept = hosts_->StateOf(slots.node(), record.directory());
    if (swept == HostWatch::Swept::kNotAsked) {
      hosts_->Sweep(slots.node(), record.directory());
      swept = hosts_->StateOf(slots.node(), record.directory());
    }
    if (swept == HostWatch::Swept::kUnderWay) sweeping.is_under_way = true;
    if (swept == HostWatch::Swept::kUnreachable) sweeping.unreachable.push_back(slots.node());
  }
  return sweeping;
}

void MpirunLauncher::Stop(const LaunchRecord& record, StopMode mode) {
  std::set<std::int64_t> reached;
  bool look_again = true;
  while (look_again) {
    look_again = false;
    for (const std::int64_t pid : Sessions().Members(record)) {
      if (!reached.insert(pid).second) continue;
      kill(static_cast<pid_t>(pid), mode == StopMode::kKill ? SIGKILL : SIGTERM);
      // It may have forked behind the look's back. What is killed forks no more: this has an end.
      look_again = mode == StopMode::kKill;
    }
  }
  if (mode == StopMode::kAsk || hosts_ == nullptr) return;
  for (const NodeSlots& slots : record.slots()) hosts_->Sweep(slots.node(), record.directory());
}

std::vector<NodeReport> MpirunLauncher::Nodes() {
  std::vector<NodeReport> reports;
  for (const NodeSpec& node : spec_.nodes()) {
    if (node.name() == kThisMachine) {
      reports.push_back(this_machine_);
      reports.back().name = node.name();
      reports.back().liveness = NodeStatus::UP;
      reports.back().seen_ms = UnixMillis();
    } else {
      reports.push_back(hosts_->Report(node.name()));
    }
  }
  return reports;
}

}  // namespace fr
