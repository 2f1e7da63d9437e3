#include "coordinator/cli/job_client.h"

#include <algorithm>
#include <random>
#include <utility>

#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/host_name.h"
#include "common/cli/run_command.h"
#include "common/config/coordinator_config.h"
#include "coordinator/api/json.h"

namespace fr {
namespace {

// A reply that was lost is asked for again after so long.
constexpr std::int64_t kSubmitRepeatMs = 3000;
// Jobs of one reply: far less than a message may hold, even with the longest job files.
constexpr int kPageJobs = 100;

std::string RandomKey() {
  std::random_device device;
  return fmt::format("{:08x}{:08x}{:08x}{:08x}", device(), device(), device(), device());
}

bool IsNumber(const std::string& text) {
  return !text.empty() && text.size() < 19 &&
         text.find_first_not_of("0123456789") == std::string::npos;
}

}  // namespace

JobClient::JobClient(const std::string& address, std::int64_t timeout_ms)
    : client_(CoordinatorAddress(address)), timeout_ms_(timeout_ms) {}

Reply JobClient::Call(Request request, std::int64_t timeout_ms) {
  try {
    Reply reply = client_.Call(std::move(request), timeout_ms);
    reached_ = true;
    return reply;
  } catch (const Error& error) {
    reached_ = reached_ || error.code() != ErrorCode::kUnavailable;
    throw;
  }
}

std::string JobClient::Submit(const JobConfig& job, const DataFacts& facts) {
  Request request;
  SubmitJobRequest& submission = *request.mutable_submit_job();
  *submission.mutable_spec() = job.spec;
  submission.set_yaml(job.yaml);
  if (facts.identities) submission.set_identities(*facts.identities);
  if (facts.images) submission.set_images(*facts.images);
  submission.set_submitter(UserAtHost());
  submission.set_submission_key(RandomKey());
  const std::int64_t deadline = SteadyMillis() + timeout_ms_;
  for (;;) {
    const std::int64_t left = deadline - SteadyMillis();
    try {
      return Call(request, std::clamp<std::int64_t>(left, 1, kSubmitRepeatMs))
          .submit_job()
          .job_id();
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kUnavailable || left <= kSubmitRepeatMs) throw;
    }
  }
}

std::string JobClient::ResolveJob(const std::string& name) {
  if (name == "latest") {
    ListJobsRequest request;
    request.set_limit(1);
    const ListJobsReply reply = Jobs(request);
    if (reply.jobs().empty()) {
      throw Error(ErrorCode::kNotFound, "there are no jobs yet; submit one: fr-submit job.yaml");
    }
    return reply.jobs(0).id();
  }
  if (IsNumber(name)) return "job-" + name;
  if (name.rfind("job-", 0) == 0 && IsNumber(name.substr(4))) return name;
  throw Error(
      ErrorCode::kInvalidArgument,
      fmt::format("\"{}\" names no job: give job-12, 12 or latest; frctl jobs lists them", name));
}

ListJobsReply JobClient::Jobs(const ListJobsRequest& request) {
  ListJobsReply all;
  for (ListJobsRequest page = request;;) {
    page.set_limit(std::min(request.limit() - all.jobs_size(), kPageJobs));
    Request one;
    *one.mutable_list_jobs() = page;
    ListJobsReply reply = std::move(*Call(std::move(one), timeout_ms_).mutable_list_jobs());
    for (JobRecord& job : *reply.mutable_jobs()) *all.add_jobs() = std::move(job);
    all.set_more(reply.more());
    *all.mutable_counts() = std::move(*reply.mutable_counts());
    if (!all.more() || reply.jobs().empty() || all.jobs_size() >= request.limit()) return all;
    page.set_before(all.jobs().rbegin()->number());
  }
}

GetJobReply JobClient::Job(const std::string& job_id) {
  Request request;
  request.mutable_get_job()->set_job_id(job_id);
  return std::move(*Call(std::move(request), timeout_ms_).mutable_get_job());
}

void JobClient::Cancel(const std::string& job_id, const std::string& reason) {
  Request request;
  request.mutable_cancel_job()->set_job_id(job_id);
  request.mutable_cancel_job()->set_reason(reason);
  Call(std::move(request), timeout_ms_);
}

void JobClient::Pause(const std::string& job_id, const std::string& reason) {
  Request request;
  request.mutable_pause_job()->set_job_id(job_id);
  request.mutable_pause_job()->set_reason(reason);
  Call(std::move(request), timeout_ms_);
}

void JobClient::Resume(const std::string& job_id) {
  Request request;
  request.mutable_resume_job()->set_job_id(job_id);
  Call(std::move(request), timeout_ms_);
}

GetMetricsReply JobClient::Metrics(const std::string& job_id, const std::vector<std::string>& names,
                                   std::int64_t after_step) {
  Request request;
  GetMetricsRequest& body = *request.mutable_get_metrics();
  body.set_job_id(job_id);
  body.mutable_names()->Assign(names.begin(), names.end());
  body.set_after_step(after_step);
  return std::move(*Call(std::move(request), timeout_ms_).mutable_get_metrics());
}

GetLogsReply JobClient::Logs(const GetLogsRequest& body) {
  Request request;
  *request.mutable_get_logs() = body;
  return std::move(*Call(std::move(request), timeout_ms_).mutable_get_logs());
}

ListCheckpointsReply JobClient::Checkpoints(const std::string& job_id) {
  Request request;
  request.mutable_list_checkpoints()->set_job_id(job_id);
  return std::move(*Call(std::move(request), timeout_ms_).mutable_list_checkpoints());
}

std::int64_t JobClient::ResolveStep(const std::string& job_id, const std::string& step) {
  if (IsNumber(step)) return std::stoll(step);
  if (step != "latest") {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("\"{}\" names no checkpoint: give its step, or latest; frctl "
                            "checkpoints lists them",
                            step));
  }
  const ListCheckpointsReply reply = Checkpoints(job_id);
  if (reply.checkpoints().empty()) {
    throw Error(ErrorCode::kNotFound, fmt::format("{} has no checkpoint yet", job_id));
  }
  return reply.checkpoints().rbegin()->step();
}

bool JobClient::Pin(const std::string& job_id, std::int64_t step, bool pinned) {
  Request request;
  PinCheckpointRequest& body = *request.mutable_pin_checkpoint();
  body.set_job_id(job_id);
  body.set_step(step);
  body.set_pinned(pinned);
  return Call(std::move(request), timeout_ms_).pin_checkpoint().retired();
}

GetShardsReply JobClient::Shards(const std::string& job_id) {
  Request request;
  request.mutable_get_shards()->set_job_id(job_id);
  return std::move(*Call(std::move(request), timeout_ms_).mutable_get_shards());
}

ListNodesReply JobClient::Nodes() {
  Request request;
  request.mutable_list_nodes();
  return std::move(*Call(std::move(request), timeout_ms_).mutable_list_nodes());
}

ListUsersReply JobClient::Users() {
  Request request;
  request.mutable_list_users();
  return std::move(*Call(std::move(request), timeout_ms_).mutable_list_users());
}

DrainNodeReply JobClient::Drain(const std::string& node, const std::string& reason, bool evict) {
  Request request;
  DrainNodeRequest& body = *request.mutable_drain_node();
  body.set_node(node);
  body.set_reason(reason);
  body.set_evict(evict);
  return std::move(*Call(std::move(request), timeout_ms_).mutable_drain_node());
}

void JobClient::Undrain(const std::string& node) {
  Request request;
  request.mutable_undrain_node()->set_node(node);
  Call(std::move(request), timeout_ms_);
}

std::vector<ValidationResult> JobClient::LatestAccuraciesOf(const JobRecord& job) {
  // Without names a request asks for every metric.
  if (job.attempt() == 0 || job.spec().data().validation().empty()) return {};
  return LatestAccuracies(job.spec(), Metrics(job.id(), AccuracyMetricNames(job.spec())));
}

int ExitCodeOfRefusal(ErrorCode code) {
  return code == ErrorCode::kResourceExhausted ? kExitRefused : ExitCodeFor(code);
}

std::string UserAtHost() {
  // getpwuid is not thread-safe; the commands have one thread.
  const passwd* user = getpwuid(geteuid());  // NOLINT(concurrency-mt-unsafe)
  return fmt::format("{}@{}", user != nullptr ? user->pw_name : std::to_string(geteuid()),
                     HostName());
}

}  // namespace fr
