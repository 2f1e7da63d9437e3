#include <cstdio>
#include <optional>
#include <string>

#include <fmt/format.h>
#include <poll.h>

#include "common/base/error.h"
#include "coordinator/cli/frctl_commands.h"
#include "coordinator/cli/job_client.h"

namespace fr {
namespace {

constexpr int kPollMs = 500;

// Nothing while the coordinator, which has answered before, does not answer.
std::optional<GetLogsReply> ReadMore(JobClient& client, const GetLogsRequest& request) {
  try {
    return client.Logs(request);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kUnavailable && client.reached()) return std::nullopt;
    throw;
  }
}

}  // namespace

void PrintLogs(JobClient& client, const std::string& job_id, const LogOptions& options) {
  GetLogsRequest request;
  request.set_job_id(job_id);
  if (options.attempt > 0) request.set_attempt(options.attempt);
  request.set_offset(options.tail_bytes > 0 ? -options.tail_bytes : 0);
  std::optional<int> attempt;
  bool answers = true;
  for (;;) {
    const std::optional<GetLogsReply> reply = ReadMore(client, request);
    if (!reply) {
      if (answers) fmt::print(stderr, "coordinator unreachable, retrying\n");
      answers = false;
    } else if (attempt && *attempt != reply->attempt()) {
      // Another attempt began: its log is read from the start.
      fmt::print(stderr, "attempt {}\n", reply->attempt());
      attempt = reply->attempt();
      request.set_offset(0);
      continue;
    } else {
      answers = true;
      attempt = reply->attempt();
      request.set_offset(reply->next_offset());
      std::fwrite(reply->text().data(), 1, reply->text().size(), stdout);
      std::fflush(stdout);
      if (!reply->text().empty()) continue;
      if (!options.follow || reply->job_ended()) return;
    }
    poll(nullptr, 0, kPollMs);
  }
}

}  // namespace fr
