#include "coordinator/cli/frctl_commands.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/cli/table.h"
#include "common/cli/text.h"
#include "coordinator/api/json.h"
#include "coordinator/cli/job_client.h"
#include "coordinator/cli/watch.h"

namespace fr {
namespace {

using nlohmann::json;

constexpr int kJsonIndent = 2;

void PrintJson(const json& value) { fmt::print("{}\n", DumpJson(value, kJsonIndent)); }

std::string ProgressCell(const JobRecord& job) {
  const Progress& progress = job.progress();
  if (progress.total_steps() <= 0) return "-";
  return fmt::format(
      "{}/{} ({:.0f} %)", CountText(progress.step()), CountText(progress.total_steps()),
      100.0 * static_cast<double>(progress.step()) / static_cast<double>(progress.total_steps()));
}

std::string TimeCell(const JobRecord& job, std::int64_t now) {
  if (job.state() == RUNNING && job.progress().has_seconds_left()) {
    return DurationText(job.progress().seconds_left()) + " left";
  }
  if (!HasEnded(job.state()))
    return "waits " + DurationText(static_cast<double>(now - job.submitted_ms()) / 1000);
  if (job.started_ms() == 0) return "-";
  return "took " + DurationText(static_cast<double>(job.ended_ms() - job.started_ms()) / 1000);
}

std::string AccuracyCell(const std::vector<ValidationResult>& results) {
  std::string cell;
  for (const ValidationResult& result : results) {
    cell += fmt::format("{}{} {}", cell.empty() ? "" : ", ", result.set(),
                        PercentText(result.accuracy()));
  }
  return cell.empty() ? "-" : cell;
}

void PrintJobTable(const std::vector<JobRecord>& jobs,
                   const std::vector<std::vector<ValidationResult>>& latest) {
  const std::int64_t now = UnixMillis();
  std::vector<std::vector<std::string>> rows;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const JobRecord& job = jobs[i];
    const Progress& progress = job.progress();
    rows.push_back({job.id(), job.spec().name(), JobState_Name(job.state()), ProgressCell(job),
                    progress.has_loss() ? DecimalText(progress.loss()) : "-",
                    job.state() == RUNNING && progress.has_images_per_second()
                        ? RateText(progress.images_per_second())
                        : "-",
                    TimeCell(job, now), AccuracyCell(latest[i]), AgeText(job.submitted_ms(), now)});
  }
  fmt::print("{}", FormatTable({{"JOB"},
                                {"NAME"},
                                {"STATE"},
                                {"STEP", Align::kRight},
                                {"LOSS", Align::kRight},
                                {"IMAGES/S", Align::kRight},
                                {"TIME"},
                                {"ACCURACY"},
                                {"SUBMITTED"}},
                               rows));
}

void PrintField(const std::string& name, const std::string& value) {
  fmt::print("{:<11} {}\n", name, OneLine(value));
}

void PrintJobFields(const JobRecord& job, const std::vector<ValidationResult>& latest) {
  PrintField("job", fmt::format("{}  {}", job.id(), job.spec().name()));
  PrintField("state", fmt::format("{}: {}", JobState_Name(job.state()), job.reason()));
  PrintField("submitted", fmt::format("{} by {}", TimeText(job.submitted_ms()), job.submitter()));
  if (job.started_ms() > 0) PrintField("started", TimeText(job.started_ms()));
  if (job.ended_ms() > 0) PrintField("ended", TimeText(job.ended_ms()));
  PrintField("attempt", fmt::format("{}, {} restarts of at most {}", job.attempt(), job.restarts(),
                                    job.spec().restart().max_restarts()));
  PrintField("workers", CountText(job.spec().resources().workers()));
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

void PrintLastValues(const GetMetricsReply& reply) {
  std::vector<std::vector<std::string>> rows;
  for (const MetricSeries& series : reply.series()) {
    if (series.values().empty()) continue;
    const auto [least, most] = std::minmax_element(series.values().begin(), series.values().end());
    rows.push_back({series.name(), CountText(*series.steps().rbegin()),
                    DecimalText(*series.values().rbegin()), DecimalText(*series.values().begin()),
                    DecimalText(*least), DecimalText(*most), CountText(series.values_size())});
  }
  fmt::print("{}", FormatTable({{"METRIC"},
                                {"STEP", Align::kRight},
                                {"LAST", Align::kRight},
                                {"FIRST", Align::kRight},
                                {"LEAST", Align::kRight},
                                {"MOST", Align::kRight},
                                {"POINTS", Align::kRight}},
                               rows));
}

void PrintPoints(const GetMetricsReply& reply) {
  std::vector<std::vector<std::string>> rows;
  for (const MetricSeries& series : reply.series()) {
    for (int i = 0; i < series.steps_size(); ++i) {
      rows.push_back({series.name(), CountText(series.steps(i)), DecimalText(series.values(i)),
                      TimeText(series.times_ms(i))});
    }
  }
  fmt::print(
      "{}",
      FormatTable({{"METRIC"}, {"STEP", Align::kRight}, {"VALUE", Align::kRight}, {"TIME"}}, rows));
}

void PrintCsv(const GetMetricsReply& reply) {
  fmt::print("metric,step,value,time_ms\n");
  for (const MetricSeries& series : reply.series()) {
    for (int i = 0; i < series.steps_size(); ++i) {
      fmt::print("{},{},{},{}\n", series.name(), series.steps(i), series.values(i),
                 series.times_ms(i));
    }
  }
}

void CheckNames(JobClient& client, const std::string& job_id,
                const std::vector<std::string>& names) {
  if (names.empty()) return;
  std::string known;
  std::vector<std::string> missing = names;
  const GetMetricsReply all = client.Metrics(job_id, {});
  for (const MetricSeries& series : all.series()) {
    known += (known.empty() ? "" : ", ") + series.name();
    std::erase_if(missing, [&](const std::string& name) {
      return name == series.name() || (name.ends_with('/') && series.name().starts_with(name));
    });
  }
  if (missing.empty()) return;
  throw Error(ErrorCode::kNotFound,
              fmt::format("{} has no metric \"{}\"; it has {}", job_id, missing.front(),
                          known.empty() ? "none yet" : known));
}

}  // namespace

void PrintJobs(JobClient& client, int limit, OutputFormat format) {
  const ListJobsReply reply = client.Jobs();
  const int shown = std::min(limit, reply.jobs_size());
  const std::vector<JobRecord> jobs(reply.jobs().begin(), reply.jobs().begin() + shown);
  std::vector<std::vector<ValidationResult>> latest;
  latest.reserve(jobs.size());
  for (const JobRecord& job : jobs) latest.push_back(client.LatestAccuraciesOf(job));
  if (format == OutputFormat::kJson) {
    json list = json::array();
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      list.push_back(JobSummaryJson(jobs[i], latest[i]));
    }
    PrintJson({{"jobs", std::move(list)}, {"total", reply.jobs_size()}});
    return;
  }
  if (jobs.empty()) {
    fmt::print(stderr, "no jobs yet; submit one: fr-submit job.yaml\n");
    return;
  }
  PrintJobTable(jobs, latest);
  if (reply.jobs_size() > shown) {
    fmt::print(stderr, "{} older ones are not shown; see --limit\n", reply.jobs_size() - shown);
  }
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

void PrintCheckpoints(JobClient& client, const std::string& job_id, OutputFormat format) {
  const ListCheckpointsReply reply = client.Checkpoints(job_id);
  if (format == OutputFormat::kJson) return PrintJson(CheckpointsJson(reply));
  const std::int64_t now = UnixMillis();
  std::vector<std::vector<std::string>> rows;
  for (const CheckpointManifest& manifest : reply.checkpoints()) {
    std::int64_t bytes = 0;
    for (const CheckpointFile& file : manifest.files()) bytes += file.bytes();
    rows.push_back({CountText(manifest.step()),
                    AccuracyCell({manifest.validation().begin(), manifest.validation().end()}),
                    BytesText(bytes), AgeText(manifest.created_ms(), now),
                    manifest.pinned() ? "yes" : "-", manifest.directory()});
  }
  if (rows.empty()) {
    fmt::print(stderr, "{} has no checkpoint yet\n", job_id);
    return;
  }
  fmt::print("{}", FormatTable({{"STEP", Align::kRight},
                                {"ACCURACY"},
                                {"SIZE", Align::kRight},
                                {"WRITTEN"},
                                {"PINNED"},
                                {"DIRECTORY"}},
                               rows));
}

void PinCheckpoint(JobClient& client, const std::string& job_id, const std::string& step,
                   bool pinned) {
  const std::int64_t number = client.ResolveStep(job_id, step);
  const bool retired = client.Pin(job_id, number, pinned);
  const char* what = pinned    ? "stays until it is unpinned"
                     : retired ? "is not pinned any more, and is retired: it was none of the "
                                 "latest and not the best"
                               : "is not pinned any more; it stays while it is one of the latest "
                                 "or the best";
  fmt::print(stderr, "the checkpoint of step {} of {} {}\n", number, job_id, what);
}

void PrintShards(JobClient& client, const std::string& job_id, OutputFormat format) {
  const GetShardsReply reply = client.Shards(job_id);
  if (format == OutputFormat::kJson) return PrintJson(ShardsJson(reply));
  std::vector<std::vector<std::string>> rows;
  for (const ShardPlanProto& plan : reply.plans()) {
    for (int rank = 0; rank < plan.ranges_size(); ++rank) {
      const auto& range = plan.ranges(rank);
      rows.push_back({CountText(plan.generation()), CountText(rank), CountText(range.begin()),
                      CountText(range.end()), CountText(range.end() - range.begin())});
    }
  }
  if (rows.empty()) {
    fmt::print(stderr, "{} has no shard plan yet: its workers make one from the data set\n",
               job_id);
    return;
  }
  fmt::print("{}", FormatTable({{"PLAN", Align::kRight},
                                {"RANK", Align::kRight},
                                {"BEGIN", Align::kRight},
                                {"END", Align::kRight},
                                {"IDENTITIES", Align::kRight}},
                               rows));
}

void PrintNodes(JobClient& client, OutputFormat format) {
  const ListNodesReply reply = client.Nodes();
  if (format == OutputFormat::kJson) return PrintJson(NodesJson(reply));
  std::vector<std::vector<std::string>> rows;
  for (const NodeStatus& node : reply.nodes()) {
    rows.push_back({node.name(), CountText(node.slots()), CountText(node.slots_used()),
                    fmt::format("{}", fmt::join(node.job_ids(), " "))});
  }
  fmt::print(
      "{}",
      FormatTable({{"NODE"}, {"SLOTS", Align::kRight}, {"USED", Align::kRight}, {"JOBS"}}, rows));
}

void PrintMetrics(JobClient& client, const std::string& job_id,
                  const std::vector<std::string>& names, std::int64_t after_step,
                  OutputFormat format) {
  CheckNames(client, job_id, names);
  const GetMetricsReply reply = client.Metrics(job_id, names, after_step);
  switch (format) {
    case OutputFormat::kJson:
      return PrintJson(MetricsJson(reply));
    case OutputFormat::kCsv:
      return PrintCsv(reply);
    case OutputFormat::kTable:
      return names.empty() ? PrintLastValues(reply) : PrintPoints(reply);
  }
}

}  // namespace fr
