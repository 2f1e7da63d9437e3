#include "coordinator/launch/mpi_job_status.h"

#include <algorithm>
#include <ctime>

#include <fmt/format.h>

#include "coordinator/launch/mpi_job.h"

namespace fr {
namespace {

using nlohmann::json;

constexpr std::int64_t kLostAfterMs = 60'000;

// Null where there is nothing, or something other than sections, on the way.
const json& At(const json& object, const std::vector<std::string>& path) {
  static const json kNothing;
  const json* here = &object;
  for (const std::string& key : path) {
    if (!here->is_object()) return kNothing;
    const auto found = here->find(key);
    if (found == here->end()) return kNothing;
    here = &*found;
  }
  return *here;
}

// The elements of the list at `path`; none where there is no list.
const json& ListAt(const json& object, const std::vector<std::string>& path) {
  static const json kNone = json::array();
  const json& list = At(object, path);
  return list.is_array() ? list : kNone;
}

// "2026-11-25T20:03:46Z", as Unix time; 0 for anything else.
std::int64_t TimeMs(const std::string& text) {
  std::tm parts = {};
  if (strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &parts) == nullptr) return 0;
  return static_cast<std::int64_t>(timegm(&parts)) * 1000;
}

// The condition of this type that is true, or null.
const json& TrueCondition(const json& object, const std::string& type) {
  static const json kNothing;
  for (const json& condition : ListAt(object, {"status", "conditions"})) {
    if (TextAt(condition, {"type"}) == type && TextAt(condition, {"status"}) == "True") {
      return condition;
    }
  }
  return kNothing;
}

bool IsTrue(const json& object, const std::string& type) {
  return TrueCondition(object, type).is_object();
}

// "Reason: message", of a condition or a container's state.
std::string ReasonText(const json& object) {
  const std::string reason = TextAt(object, {"reason"});
  const std::string message = TextAt(object, {"message"});
  if (reason.empty() || message.empty()) return reason + message;
  return reason + ": " + message;
}

bool IsLauncher(const json& pod) {
  return TextAt(pod, {"metadata", "labels", kRoleLabel}) == "launcher";
}

std::string Phase(const json& pod) { return TextAt(pod, {"status", "phase"}); }

bool HasEnded(const json& pod) { return Phase(pod) == "Succeeded" || Phase(pod) == "Failed"; }

// Asked to go, and not gone long after its time: only its node can say more, and does not.
bool IsLost(const json& pod, std::int64_t now_ms) {
  const std::int64_t due_ms = TimeMs(TextAt(pod, {"metadata", "deletionTimestamp"}));
  return due_ms > 0 && due_ms + kLostAfterMs < now_ms;
}

std::string NodeOf(const json& pod) {
  const std::string node = TextAt(pod, {"spec", "nodeName"});
  return node.empty() ? "" : " on " + node;
}

// Pods that have processes or may still get them.
struct Pods {
  int live = 0;
  int running = 0;
  std::string lost;  // "worker-1 on node7"
  bool launcher_runs = false;
};

Pods Count(const std::vector<json>& pods, std::int64_t now_ms) {
  Pods count;
  for (const json& pod : pods) {
    if (HasEnded(pod)) continue;
    if (IsLost(pod, now_ms)) {
      count.lost +=
          (count.lost.empty() ? "" : ", ") + TextAt(pod, {"metadata", "name"}) + NodeOf(pod);
      continue;
    }
    ++count.live;
    if (Phase(pod) != "Running") continue;
    ++count.running;
    count.launcher_runs = count.launcher_runs || IsLauncher(pod);
  }
  return count;
}

// Why a pod does not start, or empty: nothing keeps it.
std::string StuckReason(const json& pod) {
  for (const char* list : {"initContainerStatuses", "containerStatuses"}) {
    for (const json& container : ListAt(pod, {"status", list})) {
      const json& waiting = At(container, {"state", "waiting"});
      const std::string reason = TextAt(waiting, {"reason"});
      if (!reason.empty() && reason != "ContainerCreating" && reason != "PodInitializing") {
        return ReasonText(waiting);
      }
    }
  }
  for (const json& condition : ListAt(pod, {"status", "conditions"})) {
    if (TextAt(condition, {"type"}) == "PodScheduled" && TextAt(condition, {"status"}) == "False") {
      return ReasonText(condition);
    }
  }
  return "";
}

AttemptStatus Queued(const std::string& name, const json& mpi_job, const std::vector<json>& pods,
                     const Pods& count) {
  AttemptStatus status;
  status.phase = AttemptPhase::kQueued;
  if (IsTrue(mpi_job, "Suspended")) {
    status.reason = fmt::format("the MPIJob {} is suspended", name);
    return status;
  }
  for (const json& pod : pods) {
    const std::string stuck = HasEnded(pod) ? "" : StuckReason(pod);
    if (stuck.empty()) continue;
    status.reason = fmt::format("pod {}: {}", TextAt(pod, {"metadata", "name"}), stuck);
    return status;
  }
  if (!pods.empty()) {
    status.reason = fmt::format("{} of {} pods run", count.running, pods.size());
  } else if (IsTrue(mpi_job, "Created")) {
    status.reason = fmt::format("no pods yet: see kubectl describe mpijob {}", name);
  } else {
    status.reason =
        fmt::format("the MPI Operator has not taken the MPIJob {} up: does it run?", name);
  }
  return status;
}

// Exit status of the launcher's main container, or nothing.
std::optional<int> LauncherExit(const std::vector<json>& pods) {
  for (const json& pod : pods) {
    if (!IsLauncher(pod)) continue;
    for (const json& container : ListAt(pod, {"status", "containerStatuses"})) {
      const json& code = At(container, {"state", "terminated", "exitCode"});
      if (TextAt(container, {"name"}) == kMainContainer && code.is_number_integer()) {
        return code.get<int>();
      }
    }
  }
  return std::nullopt;
}

// What Kubernetes did to pods, beyond that their programs ended: "worker-1 on node7: OOMKilled".
std::string PodTroubles(const std::vector<json>& pods) {
  std::string troubles;
  const auto add = [&](const json& pod, const std::string& text) {
    troubles += fmt::format("; {}{}: {}", TextAt(pod, {"metadata", "name"}), NodeOf(pod), text);
  };
  for (const json& pod : pods) {
    // "Evicted", "NodeLost", "Preempting"
    if (const std::string reason = TextAt(pod, {"status", "reason"}); !reason.empty()) {
      add(pod, reason);
    }
    if (const json& target = TrueCondition(pod, "DisruptionTarget"); target.is_object()) {
      add(pod, ReasonText(target));
    }
    for (const json& container : ListAt(pod, {"status", "containerStatuses"})) {
      const std::string reason = TextAt(container, {"state", "terminated", "reason"});
      if (reason == "OOMKilled") add(pod, reason);
    }
  }
  return troubles;
}

// Empty for a program that failed by itself, which Kubernetes words as too many retries.
std::string FailedReason(const json& failed, const std::vector<json>& pods, bool has_exit_status) {
  const std::string troubles = PodTroubles(pods);
  const bool by_itself =
      has_exit_status && TextAt(failed, {"reason"}).starts_with("BackoffLimitExceeded");
  if (by_itself && troubles.empty()) return "";
  return fmt::format("Kubernetes: {}{}", by_itself ? "the launcher failed" : ReasonText(failed),
                     troubles);
}

// Whether Kubernetes itself took a pod away: drained its node, gave its place to another, lost its
// node. Not where the pod had used up its node's memory or disk.
bool WasDisrupted(const std::vector<json>& pods) {
  return std::any_of(pods.begin(), pods.end(), [](const json& pod) {
    const json& target = TrueCondition(pod, "DisruptionTarget");
    return target.is_object() && TextAt(target, {"reason"}) != "TerminationByKubelet";
  });
}

AttemptStatus Ending(AttemptStatus status, const Pods& count, const std::vector<json>& pods) {
  if (count.live == 0) {
    status.phase = AttemptPhase::kEnded;
    status.nodes_lost = !count.lost.empty() || WasDisrupted(pods);
    if (!count.lost.empty()) {
      status.reason += fmt::format("{}not waited for, their nodes are silent: {}",
                                   status.reason.empty() ? "" : "; ", count.lost);
    }
    return status;
  }
  status.phase = AttemptPhase::kRunning;
  status.exit_status = std::nullopt;
  status.reason +=
      fmt::format("{}{} of its pods are ending", status.reason.empty() ? "" : "; ", count.live);
  return status;
}

}  // namespace

std::string TextAt(const json& object, const std::vector<std::string>& path) {
  const json& text = At(object, path);
  return text.is_string() ? text.get<std::string>() : "";
}

AttemptStatus MpiJobStatus(const std::string& name, const json& mpi_job,
                           const std::vector<json>& pods, std::int64_t now_ms) {
  const Pods count = Count(pods, now_ms);
  AttemptStatus status;
  if (!mpi_job.is_object()) {
    status.reason = fmt::format("the MPIJob {} is gone: it was deleted", name);
    return Ending(std::move(status), count, pods);
  }
  if (!TextAt(mpi_job, {"metadata", "deletionTimestamp"}).empty()) {
    status.reason = fmt::format("the MPIJob {} is being deleted", name);
    // Until it is gone, with its pods: the operator might be about to make one.
    if (count.live > 0 || count.lost.empty()) {
      status.phase = AttemptPhase::kRunning;
      return status;
    }
    return Ending(std::move(status), count, pods);
  }
  if (IsTrue(mpi_job, "Succeeded")) {
    status.exit_status = LauncherExit(pods).value_or(0);
    return Ending(std::move(status), count, pods);
  }
  if (const json& failed = TrueCondition(mpi_job, "Failed"); failed.is_object()) {
    status.exit_status = LauncherExit(pods);
    status.reason = FailedReason(failed, pods, status.exit_status.has_value());
    return Ending(std::move(status), count, pods);
  }
  if (IsTrue(mpi_job, "Running") || count.launcher_runs) {
    status.phase = AttemptPhase::kRunning;
    return status;
  }
  return Queued(name, mpi_job, pods, count);
}

}  // namespace fr
