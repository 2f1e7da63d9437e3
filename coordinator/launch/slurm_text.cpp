#include "coordinator/launch/slurm_text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <functional>
#include <limits>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/base/error.h"
#include "common/base/quoted.h"
#include "common/base/trimmed.h"
#include "coordinator/launch/attempt_files.h"

namespace fr {

// The unit separator stands in no name, path or word of Slurm's.
const char* const kSqueueFormat =
    "JobID:0\x1f,State:0\x1f,exit_code:0\x1f,NodeList:0\x1f,Reason:0\x1f,WorkDir:0";
const char* const kSinfoFormat = "%N\x1f%T\x1f%a\x1f%P\x1f%c\x1f%m\x1f%G\x1f%E";

namespace {

constexpr char kSeparator = '\x1f';
constexpr std::int64_t kMiB = std::int64_t{1} << 20;

template <std::size_t size>
bool IsOneOf(std::string_view word, const std::array<std::string_view, size>& words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

// A whole number that is all of `text`, and not negative.
std::optional<std::int64_t> Number(std::string_view text) {
  std::int64_t number = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failed != std::errc() || end != text.data() + text.size() || number < 0) return std::nullopt;
  return number;
}

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const std::size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

// The lines of `output`, each of them `fields` fields.
std::vector<std::vector<std::string_view>> Records(std::string_view program,
                                                   std::string_view output, std::size_t fields) {
  std::vector<std::vector<std::string_view>> records;
  for (const std::string_view line : Split(output, '\n')) {
    if (Trimmed(line).empty()) continue;
    records.push_back(Split(line, kSeparator));
    for (std::string_view& field : records.back()) field = Trimmed(field);
    if (records.back().size() != fields) {
      throw Error(ErrorCode::kDataLoss,
                  fmt::format("{} printed {}, not {} fields", program, Quoted(line), fields));
    }
  }
  return records;
}

std::int64_t NumberOf(std::string_view program, std::string_view what, std::string_view text) {
  const std::optional<std::int64_t> number = Number(text);
  if (number) return *number;
  throw Error(ErrorCode::kDataLoss,
              fmt::format("{} printed {} as {}", program, Quoted(text), what));
}

// squeue gives a status as wait() does, 768, or since some version as 3:0: exit code and signal.
std::optional<int> ExitStatusOf(std::string_view text) {
  std::int64_t code = 0;
  std::int64_t signal_number = 0;
  const std::vector<std::string_view> parts = Split(text, ':');
  if (parts.size() == 1) {
    const std::int64_t status = NumberOf("squeue", "an exit code", text);
    code = (status >> 8) & 0xff;
    signal_number = status & 0x7f;
  } else {
    code = NumberOf("squeue", "an exit code", parts[0]);
    signal_number = NumberOf("squeue", "an exit code", parts[1]);
  }
  return static_cast<int>(signal_number != 0 ? 128 + signal_number : code);
}

std::string InQuotes(std::string_view word, std::string_view for_backslash) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=:,./@%";
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string_view::npos) {
    return std::string(word);
  }
  std::string quoted = "'";
  for (const char letter : word) {
    if (letter == '\'') {
      quoted += "'\\''";
    } else if (letter == '\\') {
      quoted += for_backslash;
    } else {
      quoted += letter;
    }
  }
  return quoted + "'";
}

// For /bin/sh.
std::string ShellWords(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& word : words) {
    if (!line.empty()) line += ' ';
    line += InQuotes(word, "\\");
  }
  return line;
}

// sbatch reads its directives nearly as a shell does, but takes a backslash for one in quotes, too.
std::string Directive(const std::vector<std::string>& words) {
  std::string line = "#SBATCH";
  for (const std::string& word : words) {
    if (word.find('\n') != std::string::npos) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{}: sbatch takes no line ends in its options", Quoted(word)));
    }
    line += ' ' + InQuotes(word, "\\\\");
  }
  return line + '\n';
}

// sbatch replaces %j and the like in names of files.
std::string WithoutPatterns(const std::string& path) {
  std::string escaped;
  for (const char letter : path) {
    escaped += letter;
    if (letter == '%') escaped += '%';
  }
  return escaped;
}

std::string Directives(const SlurmScript& script) {
  std::string text;
  const auto add = [&text](const std::string& option) { text += Directive({option}); };
  add("--job-name=" + script.job_name);
  add("--chdir=" + script.directory.string());
  add("--output=" + WithoutPatterns((script.directory / kLogFile).string()));
  add("--open-mode=append");
  add(fmt::format("--ntasks={}", script.tasks));
  add(fmt::format("--cpus-per-task={}", script.cpus_per_task));
  // sbatch refuses two kinds of memory limit.
  const bool memory_is_given =
      std::any_of(script.sbatch_args.begin(), script.sbatch_args.end(),
                  [](const std::string& word) { return word.starts_with("--mem"); });
  if (script.task_bytes > 0 && !memory_is_given) {
    const std::int64_t unit = script.cpus_per_task * kMiB;
    add(fmt::format("--mem-per-cpu={}", (script.task_bytes + unit - 1) / unit));
  }
  if (script.gpus) add("--gpus-per-task=1");
  add("--no-requeue");
  add("--export=ALL");
  if (!script.partition.empty()) add("--partition=" + script.partition);
  if (!script.account.empty()) add("--account=" + script.account);
  if (!script.sbatch_args.empty()) text += Directive(script.sbatch_args);
  return text;
}

int Clamped(std::int64_t number) {
  return static_cast<int>(std::min<std::int64_t>(number, std::numeric_limits<int>::max()));
}

// What becomes of a job in a state that is its last.
std::string EndReason(const SlurmJob& job) {
  if (job.state == "COMPLETED") return "";
  // The exit status says more, and the log.
  if (job.state == "FAILED" && job.reason == "NonZeroExitCode") return "";
  if (job.state == "CANCELLED") return fmt::format("Slurm's job {} was cancelled", job.number);
  if (job.state == "TIMEOUT") {
    return fmt::format("Slurm's job {} ran into its time limit", job.number);
  }
  if (job.state == "PREEMPTED") return fmt::format("Slurm's job {} was preempted", job.number);
  if (job.state == "OUT_OF_MEMORY") {
    return fmt::format("Slurm's job {} took more memory than it had asked for", job.number);
  }
  if (job.state == "NODE_FAIL") {
    return fmt::format("a node of Slurm's job {} failed", job.number);
  }
  if (job.state == "BOOT_FAIL") {
    return fmt::format("a node of Slurm's job {} did not boot", job.number);
  }
  return fmt::format("Slurm's job {}: {} ({})", job.number, job.state, job.reason);
}

std::string QueueReason(const SlurmJob& job) {
  if (job.state == "CONFIGURING") return "Slurm prepares its nodes";
  if (job.reason == "JobHeldAdmin" || job.reason == "JobHeldUser") {
    return fmt::format("held in Slurm's queue ({}); scontrol release {} lets it go", job.reason,
                       job.number);
  }
  if (job.state != "PENDING") return fmt::format("in Slurm's queue: {}", job.state);
  // A job that has just come has none yet.
  if (job.reason.empty() || job.reason == "None") return "in Slurm's queue";
  return fmt::format("in Slurm's queue: {}", job.reason);
}

bool IsOfDefaultPartition(const SlurmNode& node) { return node.partition_default; }

// "2 of 16 nodes take no jobs: n3 down* (Not responding), n7 drained (fan)".
std::string UnusableText(const std::vector<SlurmNode>& nodes, const std::set<std::string>& usable) {
  std::set<std::string> unusable;
  std::vector<std::string> named;
  for (const SlurmNode& node : nodes) {
    if (usable.contains(node.name) || !unusable.insert(node.name).second) continue;
    constexpr std::size_t kMostNamed = 5;
    if (named.size() == kMostNamed) continue;
    named.push_back(node.reason == "none"
                        ? fmt::format("{} {}", node.name, node.state)
                        : fmt::format("{} {} ({})", node.name, node.state, node.reason));
  }
  if (unusable.empty()) return "";
  const std::size_t more = unusable.size() - named.size();
  return fmt::format("{} of {} nodes take no jobs: {}{}", unusable.size(),
                     unusable.size() + usable.size(), fmt::join(named, ", "),
                     more > 0 ? fmt::format(" and {} more", more) : "");
}

}  // namespace

std::string ScriptText(const SlurmScript& script) {
  const std::string on_sigterm = script.passes_sigterm_on ? "'kill -TERM \"$child\"'" : ":";
  return fmt::format(
      R"(#!/bin/sh
# {title}, for Slurm; written by fr-coordinator. It runs once: submitted again, it does nothing.
{directives}
directory={directory}
{claim}
fr_claim "$directory" "$SLURM_JOB_ID" || {{
  echo "$directory: the attempt is void or has been started; Slurm's job $SLURM_JOB_ID does nothing"
  exit 1
}}

export OMP_NUM_THREADS={threads}
{command} &
child=$!
# This shell survives the SIGTERM that ends the workers, to say how they ended.
trap {on_sigterm} TERM
while :; do
  wait "$child"
  status=$?
  kill -0 "$child" 2>/dev/null || break
done
echo "$status" >"$directory/{file}.partial" && mv "$directory/{file}.partial" "$directory/{file}"
exit "$status"
)",
      fmt::arg("title", script.title), fmt::arg("directives", Directives(script)),
      fmt::arg("directory", ShellWords({script.directory.string()})),
      fmt::arg("claim", ClaimScript()), fmt::arg("threads", script.cpus_per_task),
      fmt::arg("command", ShellWords(script.command)), fmt::arg("on_sigterm", on_sigterm),
      fmt::arg("file", kExitStatusFile));
}

std::string SlurmJobName(const std::string& job_id, int attempt) {
  return fmt::format("fr-{}-{}", job_id, attempt);
}

std::string ParseJobNumber(std::string_view output) {
  const std::string_view number = Split(Trimmed(output), ';').front();
  if (!Number(number)) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("sbatch printed {}, not a job's number", Quoted(output)));
  }
  return std::string(number);
}

bool IsPassing(std::string_view sbatch_error) {
  constexpr std::array<std::string_view, 8> kPassing = {"Unable to contact slurm controller",
                                                        "Socket timed out",
                                                        "Protocol authentication error",
                                                        "Zero Bytes were transmitted or received",
                                                        "temporarily",
                                                        "Connection refused",
                                                        "connect failure",
                                                        "job submit limit"};
  return std::any_of(kPassing.begin(), kPassing.end(), [&](std::string_view words) {
    return sbatch_error.find(words) != std::string_view::npos;
  });
}

std::vector<SlurmJob> ParseJobs(std::string_view output) {
  std::vector<SlurmJob> jobs;
  for (const auto& fields : Records("squeue", output, 6)) {
    SlurmJob& job = jobs.emplace_back();
    NumberOf("squeue", "a job's number", fields[0]);
    job.number = fields[0];
    job.state = fields[1];
    const int exit_status = ExitStatusOf(fields[2]).value_or(0);
    // In other states it is the signal with which Slurm ended the script.
    if (job.state == "COMPLETED" || job.state == "FAILED") job.exit_status = exit_status;
    job.nodes = fields[3];
    job.reason = fields[4];
    job.directory = fields[5];
  }
  return jobs;
}

AttemptStatus StatusOf(const SlurmJob& job) {
  constexpr std::array<std::string_view, 7> kQueued = {
      "PENDING",     "CONFIGURING",  "REQUEUED",     "REQUEUE_HOLD",
      "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"};
  constexpr std::array<std::string_view, 5> kRunning = {"RUNNING", "COMPLETING", "STAGE_OUT",
                                                        "SIGNALING", "RESIZING"};
  constexpr std::array<std::string_view, 10> kEnded = {
      "BOOT_FAIL", "CANCELLED",     "COMPLETED", "DEADLINE", "FAILED",
      "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",  "TIMEOUT"};
  AttemptStatus status;
  if (IsOneOf(job.state, kQueued)) {
    status.phase = AttemptPhase::kQueued;
    status.reason = QueueReason(job);
  } else if (IsOneOf(job.state, kRunning)) {
    status.phase = AttemptPhase::kRunning;
  } else if (job.state == "SUSPENDED" || job.state == "STOPPED") {
    status.phase = AttemptPhase::kRunning;
    status.reason = fmt::format("{} in Slurm; scontrol resume {} lets it go on",
                                job.state == "STOPPED" ? "stopped" : "suspended", job.number);
  } else if (IsOneOf(job.state, kEnded)) {
    status.phase = AttemptPhase::kEnded;
    status.exit_status = job.exit_status;
    status.reason = EndReason(job);
    status.nodes_lost = job.state == "NODE_FAIL" || job.state == "BOOT_FAIL" ||
                        job.state == "PREEMPTED" || job.state == "TIMEOUT";
  } else {
    status.reason = fmt::format("squeue says that job {} is {}, which is not known here",
                                job.number, Quoted(job.state));
  }
  return status;
}

std::vector<SlurmNode> ParseNodes(std::string_view output) {
  std::vector<SlurmNode> nodes;
  for (const auto& fields : Records("sinfo", output, 8)) {
    SlurmNode& node = nodes.emplace_back();
    node.name = fields[0];
    node.state = fields[1];
    node.partition_up = fields[2] == "up";
    node.partition_default = fields[3].ends_with('*');
    node.cpus = Clamped(NumberOf("sinfo", "a node's CPUs", fields[4]));
    constexpr std::int64_t kMostMiB = std::int64_t{1} << 40;
    node.memory_bytes = std::min(NumberOf("sinfo", "a node's memory", fields[5]), kMostMiB) * kMiB;
    node.gpus = CountGpus(fields[6]);
    node.reason = fields[7];
  }
  return nodes;
}

bool TakesTasks(const SlurmNode& node) {
  // "unknown" is a node's state just after Slurm has started.
  constexpr std::array<std::string_view, 9> kUsable = {
      "idle",    "mixed",        "allocated",     "completing", "planned",
      "unknown", "powered_down", "powering_down", "powering_up"};
  // Behind it: * does not answer (and soon is down), ~ # ! % power saving, - planned,
  // $ @ ^ maintenance and reboots.
  constexpr std::string_view kPassingFlags = "*~#!%-";
  const std::size_t end = node.state.find_first_of("*~#!%-$@^");
  const std::string_view state(node.state.data(), std::min(end, node.state.size()));
  const std::string_view flags = std::string_view(node.state).substr(state.size());
  return node.partition_up && IsOneOf(state, kUsable) &&
         flags.find_first_not_of(kPassingFlags) == std::string_view::npos;
}

int CountGpus(std::string_view gres) {
  // Commas within parentheses separate numbers of sockets.
  std::string plain;
  int depth = 0;
  for (const char letter : gres) {
    if (letter == '(') ++depth;
    if (depth == 0) plain += letter;
    if (letter == ')' && depth > 0) --depth;
  }
  std::int64_t gpus = 0;
  for (const std::string_view resource : Split(plain, ',')) {
    const std::vector<std::string_view> parts = Split(resource, ':');
    if (parts.front() != "gpu") continue;
    // Without a number: one, with or without its type.
    gpus = Clamped(gpus + Number(parts.back()).value_or(1));
  }
  return Clamped(gpus);
}

NodeReport SumNodes(const NodeSpec& config, std::vector<SlurmNode> nodes) {
  if (std::any_of(nodes.begin(), nodes.end(), IsOfDefaultPartition)) {
    std::erase_if(nodes, std::not_fn(IsOfDefaultPartition));
  }
  NodeReport report;
  report.name = config.name();
  if (nodes.empty()) {
    report.liveness = NodeStatus::DOWN;
    report.reason = "sinfo lists no node where jobs go; see slurm.partition";
    return report;
  }
  report.liveness = NodeStatus::UP;
  std::set<std::string> usable;
  std::int64_t cpus = 0;
  std::int64_t gpus = 0;
  for (const SlurmNode& node : nodes) {
    if (!TakesTasks(node) || !usable.insert(node.name).second) continue;
    cpus += node.cpus;
    gpus += node.gpus;
    report.memory_bytes += node.memory_bytes;
  }
  report.cpus = Clamped(cpus);
  report.gpus = Clamped(gpus);
  report.usable_slots = Clamped(config.gpus() > 0 ? std::min(cpus, gpus) : cpus);
  report.reason = UnusableText(nodes, usable);
  return report;
}

}  // namespace fr
