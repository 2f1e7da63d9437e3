#include "coordinator/launch/host_watch.h"

#include <algorithm>
#include <chrono>

#include <fmt/format.h>
#include <sys/eventfd.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/gpu_inventory.h"
#include "common/base/logging.h"
#include "coordinator/launch/host_facts.h"
#include "coordinator/launch/program.h"
#include "coordinator/launch/session.h"
#include "coordinator/launch/ssh.h"

namespace fr {
namespace {

// So many hosts are asked at a time.
constexpr std::size_t kMaxThreads = 16;
// Of a host. Those of a host that is away for long are forgotten, oldest first.
constexpr std::size_t kMaxSweeps = 300;

// Kills what has one of the marks. The shell that does it has none.
std::string SweepScript(const std::vector<std::string>& directories) {
  if (directories.empty()) return "";
  std::string patterns;
  for (const std::string& directory : directories) {
    patterns += " -e " + ShellQuoted(fmt::format("{}={}", kAttemptVariable, directory));
  }
  return fmt::format(
      "grep -lzxF{} /proc/[0-9]*/environ 2>/dev/null | while IFS=/ read -r root proc pid rest; do\n"
      "  kill -KILL \"$pid\"\n"
      "done\n",
      patterns);
}

// Up, or down with the reason: what `command` followed by a shell says. `name`: in its reason.
NodeReport AskMachine(std::vector<std::string> command, const std::string& name,
                      const ProgramOptions& options) {
  NodeReport report;
  report.liveness = NodeStatus::DOWN;
  command.insert(command.end(), {"sh", "-s"});
  try {
    const ProgramResult result = RunProgram(command, options);
    report.reason = FailureText(name, result, options);
    if (!result.ok()) return report;
    if (!ReadHostFacts(result.output, &report)) {
      report.reason = fmt::format("{} answered, but not as a shell does", name);
      return report;
    }
    report.liveness = NodeStatus::UP;
    report.seen_ms = UnixMillis();
  } catch (const Error& error) {
    report.reason = error.what();
  }
  return report;
}

}  // namespace

NodeReport LookAtThisMachine() {
  NodeReport report = AskMachine({}, "sh", {.input = kMachineScript});
  std::string trouble;
  for (const GpuInfo& gpu : FindGpus(&trouble)) AddGpu(gpu.name, gpu.memory_bytes, &report);
  if (!trouble.empty()) spdlog::warn("looking for this machine's GPUs: {}", trouble);
  return report;
}

HostWatch::HostWatch(const std::vector<std::string>& hosts, const SshSpec& ssh)
    : ssh_(ssh), command_(SshCommand(ssh)), cancel_(eventfd(0, EFD_CLOEXEC)) {
  if (!cancel_.valid()) throw Error(ErrorCode::kIo, "eventfd: " + ErrnoText());
  hosts_.resize(hosts.size());
  for (std::size_t i = 0; i < hosts.size(); ++i) hosts_[i].report.name = hosts[i];
  for (std::size_t i = 0; i < std::min(hosts.size(), kMaxThreads); ++i) {
    threads_.emplace_back([this](const std::stop_token& stop) { Loop(stop); });
  }
}

HostWatch::~HostWatch() {
  for (std::jthread& thread : threads_) thread.request_stop();
  eventfd_write(cancel_.get(), 1);
}

std::size_t HostWatch::IndexOf(const std::string& name) const {
  const auto host = std::find_if(hosts_.begin(), hosts_.end(),
                                 [&](const Host& one) { return one.report.name == name; });
  return static_cast<std::size_t>(host - hosts_.begin());
}

NodeReport HostWatch::Report(const std::string& host) const {
  const std::lock_guard lock(mutex_);
  const std::size_t index = IndexOf(host);
  return index < hosts_.size() ? hosts_[index].report : NodeReport();
}

void HostWatch::Sweep(const std::string& host, const std::string& directory) {
  const std::lock_guard lock(mutex_);
  const std::size_t index = IndexOf(host);
  if (index == hosts_.size()) return;
  std::deque<SweepState>& sweeps = hosts_[index].sweeps;
  // One that waits for the host's return need not be asked for again.
  const bool waits = std::any_of(sweeps.begin(), sweeps.end(), [&](const SweepState& one) {
    return one.directory == directory && one.state == Swept::kUnreachable;
  });
  if (waits) return;
  std::erase_if(sweeps, [&](const SweepState& one) { return one.directory == directory; });
  if (sweeps.size() >= kMaxSweeps) sweeps.pop_front();
  sweeps.push_back({directory, Swept::kUnderWay, ++sweeps_asked_});
  hosts_[index].due_ms = 0;
  changed_.notify_all();
}

HostWatch::Swept HostWatch::StateOf(const std::string& host, const std::string& directory) const {
  const std::lock_guard lock(mutex_);
  const std::size_t index = IndexOf(host);
  if (index == hosts_.size()) return Swept::kNotAsked;
  for (const SweepState& sweep : hosts_[index].sweeps) {
    if (sweep.directory == directory) return sweep.state;
  }
  return Swept::kNotAsked;
}

void HostWatch::Loop(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    std::int64_t wait_ms = 0;
    if (Host* host = NextDue(&wait_ms)) {
      Ask(*host, lock);
      continue;
    }
    // Whatever makes a host due earlier notifies.
    changed_.wait_for(lock, stop, std::chrono::milliseconds(wait_ms), [this] {
      std::int64_t ignored = 0;
      return NextDue(&ignored) != nullptr;
    });
  }
}

// The host that has been due for longest; null: none is for `*wait_ms`.
HostWatch::Host* HostWatch::NextDue(std::int64_t* wait_ms) {
  Host* next = nullptr;
  for (Host& host : hosts_) {
    if (!host.is_asked && (next == nullptr || host.due_ms < next->due_ms)) next = &host;
  }
  const std::int64_t now_ms = SteadyMillis();
  *wait_ms =
      next != nullptr ? std::max<std::int64_t>(0, next->due_ms - now_ms) : ssh_.probe_every_ms();
  return next != nullptr && next->due_ms <= now_ms ? next : nullptr;
}

void HostWatch::Ask(Host& host, std::unique_lock<std::mutex>& lock) {
  host.is_asked = true;
  std::vector<std::string> directories;
  std::vector<std::int64_t> numbers;
  for (const SweepState& sweep : host.sweeps) {
    if (sweep.state == Swept::kDone) continue;
    directories.push_back(sweep.directory);
    numbers.push_back(sweep.number);
  }
  const std::string name = host.report.name;
  lock.unlock();
  std::vector<std::string> command = command_;
  command.push_back(name);
  ProgramOptions options;
  options.timeout_ms = ssh_.probe_timeout_ms();
  options.input = SweepScript(directories) + kMachineScript + kGpuScript;
  options.max_output_bytes = std::size_t{64} << 10;
  options.cancel_fd = cancel_.get();
  const NodeReport answer = AskMachine(std::move(command), ssh_.command() + " " + name, options);
  lock.lock();
  Settle(host, answer, numbers);
  changed_.notify_all();
}

void HostWatch::Settle(Host& host, const NodeReport& answer,
                       const std::vector<std::int64_t>& swept) {
  const bool is_up = answer.liveness == NodeStatus::UP;
  const std::string name = host.report.name;
  host.is_asked = false;
  host.failures = is_up ? 0 : host.failures + 1;
  // Once may be an accident: the second time is not long in coming.
  host.due_ms =
      SteadyMillis() + (host.failures == 1 ? ssh_.probe_every_ms() / 4 : ssh_.probe_every_ms());
  for (SweepState& sweep : host.sweeps) {
    if (std::find(swept.begin(), swept.end(), sweep.number) != swept.end()) {
      sweep.state = is_up ? Swept::kDone : Swept::kUnreachable;
    } else if (sweep.state == Swept::kUnderWay) {
      host.due_ms = 0;  // asked for meanwhile
    }
  }
  if (is_up) {
    host.report = answer;
    host.report.name = name;
  } else {
    if (host.failures >= 2) host.report.liveness = NodeStatus::DOWN;
    if (host.report.liveness != NodeStatus::UP) host.report.reason = answer.reason;
  }
}

}  // namespace fr
