#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "common/base/clock.h"
#include "common/cli/table.h"
#include "common/cli/text.h"
#include "coordinator/api/json.h"
#include "coordinator/cli/frctl_commands.h"
#include "coordinator/cli/job_client.h"
#include "coordinator/cli/job_text.h"

namespace fr {
namespace {

std::string MemoryCell(const NodeStatus& node) {
  if (node.memory_bytes() == 0) return "-";
  return fmt::format("{}/{}", BytesText(node.memory_reserved_bytes()),
                     BytesText(node.memory_bytes()));
}

std::string LabelsCell(const NodeStatus& node) {
  return node.labels().empty() ? "-" : fmt::format("{}", fmt::join(node.labels(), " "));
}

// Of what may be had so many of, or without a limit (0).
std::string LimitCell(int used, int limit) {
  return limit == 0 ? CountText(used) : UseCell(used, limit);
}

}  // namespace

void PrintNodes(JobClient& client, OutputFormat format) {
  const ListNodesReply reply = client.Nodes();
  if (format == OutputFormat::kJson) return PrintJson(NodesJson(reply));
  const std::int64_t now = UnixMillis();
  std::vector<std::vector<std::string>> rows;
  for (const NodeStatus& node : reply.nodes()) {
    rows.push_back(
        {node.name(), NodeStateCell(node), UseCell(node.slots_used(), node.slots()),
         UseCell(node.gpus_used(), node.gpus()), GpuModelsCell(node),
         node.cpus() == 0 ? "-" : UseCell(node.cpus_used(), node.cpus()), MemoryCell(node),
         LabelsCell(node),
         node.job_ids().empty() ? "-" : fmt::format("{}", fmt::join(node.job_ids(), " ")),
         NodeNote(node, now)});
  }
  fmt::print("{}", FormatTable({{"NODE"},
                                {"STATE"},
                                {"SLOTS", Align::kRight},
                                {"GPUS", Align::kRight},
                                {"MODEL"},
                                {"CORES", Align::kRight},
                                {"MEMORY", Align::kRight},
                                {"LABELS"},
                                {"JOBS"},
                                {"NOTE"}},
                               rows));
}

void PrintUsers(JobClient& client, OutputFormat format) {
  const ListUsersReply reply = client.Users();
  if (format == OutputFormat::kJson) return PrintJson(UsersJson(reply));
  if (reply.users().empty()) {
    fmt::print(stderr, "no user has used anything lately\n");
    return;
  }
  std::vector<std::vector<std::string>> rows;
  for (const UserStatus& user : reply.users()) {
    rows.push_back({user.name(), CountText(user.jobs_running()), CountText(user.jobs_waiting()),
                    user.max_jobs() == 0 ? "-" : CountText(user.max_jobs()),
                    LimitCell(user.workers(), user.max_workers()), DecimalText(user.share()),
                    fmt::format("{:.1f} h", user.slot_seconds() / 3600)});
  }
  fmt::print("{}", FormatTable({{"USER"},
                                {"RUNNING", Align::kRight},
                                {"WAITING", Align::kRight},
                                {"MOST JOBS", Align::kRight},
                                {"WORKERS", Align::kRight},
                                {"SHARE", Align::kRight},
                                {"USED LATELY", Align::kRight}},
                               rows));
}

void DrainNode(JobClient& client, const std::string& node, const std::string& reason, bool evict) {
  const std::string by = "by " + UserAtHost();
  const DrainNodeReply reply =
      client.Drain(node, reason.empty() ? by : fmt::format("{} ({})", reason, by), evict);
  const std::string jobs = fmt::format("{}", fmt::join(reply.running_job_ids(), ", "));
  if (jobs.empty()) {
    fmt::print(stderr, "{} gets no more workers; none are there now\n", node);
  } else if (evict) {
    fmt::print(stderr, "{} gets no more workers; {} will stop at a checkpoint and move\n", node,
               jobs);
  } else {
    fmt::print(stderr,
               "{} gets no more workers; those of {} go on to their end (--evict moves "
               "them)\n",
               node, jobs);
  }
}

void UndrainNode(JobClient& client, const std::string& node) {
  client.Undrain(node);
  fmt::print(stderr, "{} may have workers again\n", node);
}

}  // namespace fr
