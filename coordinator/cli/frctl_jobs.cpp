#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "common/base/clock.h"
#include "common/cli/table.h"
#include "common/cli/text.h"
#include "coordinator/api/json.h"
#include "coordinator/cli/frctl_commands.h"
#include "coordinator/cli/job_client.h"
#include "coordinator/cli/job_text.h"
#include "coordinator/jobs/job_state.h"

namespace fr {
namespace {

constexpr std::size_t kNoteWidth = 60;

std::string ProgressCell(const JobRecord& job) {
  const Progress& progress = job.progress();
  if (progress.total_steps() <= 0) return "-";
  return fmt::format(
      "{}/{} ({:.0f} %)", CountText(progress.step()), CountText(progress.total_steps()),
      100.0 * static_cast<double>(progress.step()) / static_cast<double>(progress.total_steps()));
}

void PrintJobTable(const ListJobsReply& reply,
                   const std::vector<std::vector<ValidationResult>>& latest) {
  const std::int64_t now = UnixMillis();
  std::vector<std::vector<std::string>> rows;
  for (const JobRecord& job : reply.jobs()) {
    const Progress& progress = job.progress();
    rows.push_back({job.id(), job.spec().name(), JobState_Name(job.state()), job.owner(),
                    WorkersCell(job), CountText(job.spec().priority()), ProgressCell(job),
                    progress.has_loss() ? DecimalText(progress.loss()) : "-",
                    job.state() == RUNNING && progress.has_images_per_second()
                        ? RateText(progress.images_per_second())
                        : "-",
                    TimeCell(job, now), AccuracyCell(latest[rows.size()]),
                    AgeText(job.submitted_ms(), now), NoteCell(job, kNoteWidth)});
  }
  fmt::print("{}", FormatTable({{"JOB"},
                                {"NAME"},
                                {"STATE"},
                                {"USER"},
                                {"WORKERS", Align::kRight},
                                {"PRIORITY", Align::kRight},
                                {"STEP", Align::kRight},
                                {"LOSS", Align::kRight},
                                {"IMAGES/S", Align::kRight},
                                {"TIME"},
                                {"ACCURACY"},
                                {"SUBMITTED"},
                                {"NOTE"}},
                               rows));
}

void PrintField(const std::string& name, const std::string& value) {
  if (!value.empty()) fmt::print("{:<11} {}\n", name, OneLine(value));
}

std::string WorkersText(const JobRecord& job) {
  const Resources& resources = job.spec().resources();
  std::string text = WorkersCell(job);
  if (resources.has_min_workers()) text += fmt::format(", at least {}", resources.min_workers());
  text += fmt::format(", {} threads each", resources.threads_per_worker());
  if (!resources.labels().empty()) {
    text += fmt::format(", on nodes with {}", fmt::join(resources.labels(), " and "));
  }
  return text;
}

// When it may start, of a job that waits.
std::string QueueText(const JobRecord& job, std::int64_t now) {
  if (!job.has_queue_position()) return "";
  std::string text = fmt::format("position {}, {}", job.queue_position(), TimeCell(job, now));
  if (job.has_expected_start_ms()) {
    text += ", expected to start at " + TimeText(job.expected_start_ms());
  }
  if (job.not_before_ms() > now) text += ", not before " + TimeText(job.not_before_ms());
  return text;
}

std::string YieldText(const JobRecord& job) {
  if (!job.has_yield()) return "";
  return fmt::format("to stop at a checkpoint, at {} ({}): {}", TimeText(job.yield().asked_ms()),
                     Yield::Cause_Name(job.yield().cause()), job.yield().reason());
}

void PrintJobFields(const JobRecord& job, const std::vector<ValidationResult>& latest) {
  const std::int64_t now = UnixMillis();
  PrintField("job", fmt::format("{}  {}", job.id(), job.spec().name()));
  PrintField("state", fmt::format("{}: {}", JobState_Name(job.state()), job.reason()));
  PrintField("queue", QueueText(job, now));
  PrintField("asked", YieldText(job));
  PrintField("user", job.owner());
  PrintField("priority", CountText(job.spec().priority()));
  PrintField("submitted", fmt::format("{} by {}", TimeText(job.submitted_ms()), job.submitter()));
  if (job.started_ms() > 0) PrintField("started", TimeText(job.started_ms()));
  if (job.ended_ms() > 0) PrintField("ended", TimeText(job.ended_ms()));
  PrintField("attempt", AttemptText(job));
  PrintField("workers", WorkersText(job));
  PrintField("placement", PlacementText(job.launch()));
  PrintField("demand", DemandText(job));
  PrintField("data", job.spec().data().train());
  PrintField("step", ProgressCell(job));
  if (job.progress().has_loss()) PrintField("loss", DecimalText(job.progress().loss()));
  PrintField("accuracy", AccuracyCell(latest));
  PrintField("directory", job.run_dir());
}

void PrintTransitions(const GetJobReply& reply) {
  std::vector<std::vector<std::string>> rows;
  for (const Transition& transition : reply.transitions()) {
    rows.push_back({TimeText(transition.time_ms()), JobState_Name(transition.to()),
                    transition.attempt() > 0 ? CountText(transition.attempt()) : "-",
                    transition.reason()});
  }
  fmt::print("\n{}",
             FormatTable({{"TIME"}, {"STATE"}, {"ATTEMPT", Align::kRight}, {"REASON"}}, rows));
}

// "paused by ada@lab: why"
std::string Signed(const char* what, const std::string& reason) {
  const std::string by = fmt::format("{} by {}", what, UserAtHost());
  return reason.empty() ? by : fmt::format("{}: {}", by, reason);
}

}  // namespace

void PrintJobs(JobClient& client, const JobListOptions& options, OutputFormat format) {
  ListJobsRequest request;
  request.set_owner(options.user);
  request.mutable_states()->Assign(options.states.begin(), options.states.end());
  request.set_limit(options.limit);
  const ListJobsReply reply = client.Jobs(request);
  std::vector<std::vector<ValidationResult>> latest;
  latest.reserve(static_cast<std::size_t>(reply.jobs_size()));
  for (const JobRecord& job : reply.jobs()) latest.push_back(client.LatestAccuraciesOf(job));
  if (format == OutputFormat::kJson) return PrintJson(JobsJson(reply, latest));
  if (reply.jobs().empty()) {
    fmt::print(stderr, "{}\n",
               reply.counts().empty() ? "no jobs yet; submit one: fr-submit job.yaml"
                                      : "there are no such jobs");
    return;
  }
  PrintJobTable(reply, latest);
  if (reply.more()) fmt::print(stderr, "earlier ones are not shown; see --limit\n");
}

void PrintJob(JobClient& client, const std::string& job_id, OutputFormat format) {
  const GetJobReply reply = client.Job(job_id);
  const std::vector<ValidationResult> latest = client.LatestAccuraciesOf(reply.job());
  if (format == OutputFormat::kJson) {
    PrintJson(
        JobJson(reply.job(), {reply.transitions().begin(), reply.transitions().end()}, latest));
    return;
  }
  PrintJobFields(reply.job(), latest);
  PrintTransitions(reply);
}

void CancelJob(JobClient& client, const std::string& job_id, const std::string& reason) {
  client.Cancel(job_id, Signed("cancelled", reason));
  fmt::print(stderr, "{} will end\n", job_id);
}

void PauseJob(JobClient& client, const std::string& job_id, const std::string& reason) {
  client.Pause(job_id, Signed("paused", reason));
  fmt::print(stderr, "{} {}\n", job_id,
             client.Job(job_id).job().state() == JobState::PAUSED
                 ? fmt::format("is paused; frctl resume {} puts it back into the queue", job_id)
                 : "will stop at its next checkpoint, and then wait to be resumed");
}

void ResumeJob(JobClient& client, const std::string& job_id) {
  client.Resume(job_id);
  const JobRecord job = client.Job(job_id).job();
  fmt::print(stderr, "{} is {}\n", job_id,
             WaitsForSlots(job.state()) ? "in the queue again" : "not paused");
}

}  // namespace fr
