#include "coordinator/api/prometheus.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "common/base/version.h"
#include "coordinator/api/json.h"
#include "coordinator/jobs/job_view.h"

namespace fr {
namespace {

struct Family {
  const char* name;
  const char* type;  // "gauge", "counter"
  const char* help;
};

using Labels = std::vector<std::pair<const char*, std::string>>;

// Prometheus takes nothing of a page that has a single byte which is no UTF-8.
std::string ValidUtf8(const std::string& text) {
  const bool ascii =
      std::all_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x80; });
  if (ascii) return text;
  return nlohmann::json::parse(DumpJson(nlohmann::json(text))).get<std::string>();
}

std::string Escaped(const std::string& text) {
  std::string escaped;
  for (const char c : ValidUtf8(text)) {
    if (c == '\\' || c == '"') escaped += '\\';
    if (c == '\n') {
      escaped += "\\n";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

std::string Number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return fmt::format("{}", value);
}

// Families in the order in which they first have a sample, each with all of its samples.
class Page {
 public:
  void Add(const Family& family, const Labels& labels, double value) {
    auto known = std::find_if(families_.begin(), families_.end(),
                              [&](const auto& one) { return one.first == &family; });
    if (known == families_.end()) known = families_.insert(known, {&family, ""});
    std::string text;
    for (const auto& [name, label] : labels) {
      text += fmt::format("{}{}=\"{}\"", text.empty() ? "" : ",", name, Escaped(label));
    }
    if (!text.empty()) text = "{" + text + "}";
    known->second += fmt::format("{}{} {}\n", family.name, text, Number(value));
  }

  std::string Text() const {
    std::string text;
    for (const auto& [family, samples] : families_) {
      text += fmt::format("# HELP {0} {2}\n# TYPE {0} {1}\n{3}", family->name, family->type,
                          family->help, samples);
    }
    return text;
  }

 private:
  std::vector<std::pair<const Family*, std::string>> families_;
};

// A metric of a job, whose name is `prefix`, or `prefix`, some text and `suffix`: the text becomes
// the value of `label`.
struct Rule {
  std::string_view prefix;
  std::string_view suffix;
  const char* label;
  double unit;  // what the value is multiplied by
  Family family;
};

constexpr double kMs = 1e-3;
constexpr double kGiB = 1024.0 * 1024 * 1024;

// A metric of one name.
constexpr Rule One(std::string_view name, const Family& family, double unit = 1) {
  return {name, "", nullptr, unit, family};
}

// One a verification set.
constexpr Rule OfSet(std::string_view suffix, const Family& family) {
  return {"val/", suffix, "set", 1, family};
}

constexpr std::array kRules = {
    One("train/loss", {"fr_train_loss", "gauge", "Mean loss of the last steps"}),
    One("train/accuracy",
        {"fr_train_accuracy", "gauge",
         "Share of the training images whose own identity scored highest, 0 to 1"}),
    One("train/gradient_norm",
        {"fr_train_gradient_norm", "gauge", "L2 norm of the backbone's gradient"}),
    One("train/lr", {"fr_train_learning_rate", "gauge", "Learning rate of the last step"}),
    One("train/images_per_second",
        {"fr_train_images_per_second", "gauge", "Training speed of all workers together"}),
    One("train/epoch",
        {"fr_train_epochs", "gauge", "Epochs trained, with the present one's share"}),
    One("train/data_wait_share",
        {"fr_train_data_wait_ratio", "gauge",
         "Share of the time for which training waited for images, 0 to 1"}),
    One("train/bad_records",
        {"fr_train_bad_records_total", "counter",
         "Images that could not be read and were left out, in the present attempt"}),
    One("train/skipped_steps",
        {"fr_train_skipped_steps_total", "counter",
         "Steps not taken because of gradients that were not finite, in the present attempt"}),
    One("train/memory_gib",
        {"fr_train_memory_bytes", "gauge", "Memory of the worker that has most"}, kGiB),
    One("train/gpu_memory_gib",
        {"fr_train_gpu_memory_bytes", "gauge",
         "Memory that the worker that has most took of its GPU"},
        kGiB),
    Rule{"train/time/",
         "_ms",
         "phase",
         kMs,
         {"fr_train_phase_seconds", "gauge", "Time of a step's phase, mean of all workers"}},
    One("head/dropped_mass",
        {"fr_head_dropped_mass", "gauge",
         "Greatest probability that a sample lost to identities left out, 0 to 1"}),
    One("head/skipped_share", {"fr_head_skipped_ratio", "gauge",
                               "Share of the head's backward pass that was left out, 0 to 1"}),
    Rule{"shard/",
         "/targets",
         "rank",
         1,
         {"fr_shard_targets_ratio", "gauge",
          "Share of the images whose identity lies in this rank's shard, 0 to 1"}},
    One("triplet/active_share",
        {"fr_triplet_active_ratio", "gauge", "Share of the triplets with a loss, 0 to 1"}),
    One("triplet/active", {"fr_triplet_active", "gauge", "Triplets with a loss, in a step"}),
    OfSet("/accuracy",
          {"fr_validation_accuracy", "gauge", "Verification accuracy, mean of ten folds, 0 to 1"}),
    OfSet("/accuracy_std", {"fr_validation_accuracy_stddev", "gauge",
                            "Standard deviation of the ten folds' accuracies"}),
    OfSet("/auc", {"fr_validation_auc", "gauge", "Area under the ROC curve, 0 to 1"}),
    OfSet("/eer", {"fr_validation_eer", "gauge", "Equal error rate, 0 to 1"}),
    OfSet("/tar_at_far_1e-3", {"fr_validation_tar_at_far_1e3", "gauge",
                               "True accept rate at a false accept rate of 0.001, 0 to 1"}),
    OfSet("/threshold",
          {"fr_validation_threshold", "gauge", "Squared distance that tells same from different"}),
    OfSet("/embedding_norm",
          {"fr_validation_embedding_norm", "gauge", "Mean norm of the embeddings"}),
    One("checkpoint/stall_ms",
        {"fr_checkpoint_stall_seconds", "gauge",
         "Time for which training waited for the last checkpoint"},
        kMs),
    One("checkpoint/write_ms",
        {"fr_checkpoint_write_seconds", "gauge", "Time that writing the last checkpoint took"},
        kMs),
};

constexpr Family kOtherMetric = {"fr_job_metric", "gauge",
                                 "A metric that has no family of its own, under its name"};
constexpr Family kBuildInfo = {"fr_build_info", "gauge", "The coordinator's version; always 1"};
constexpr Family kStartTime = {"process_start_time_seconds", "gauge",
                               "When the coordinator was started, Unix time"};
constexpr Family kJobs = {"fr_jobs", "gauge", "Jobs by state, all that were ever submitted"};
constexpr Family kSlots = {"fr_node_slots", "gauge", "Workers that a node can run"};
constexpr Family kSlotsUsed = {"fr_node_slots_used", "gauge", "Workers that a node runs"};
constexpr Family kNodeUp = {"fr_node_up", "gauge", "1 for a node that answers, else 0"};
constexpr Family kDrained = {"fr_node_drained", "gauge", "1 for a node that is drained, else 0"};
constexpr Family kCordoned = {"fr_node_cordoned", "gauge",
                              "1 for a node that gets no workers after repeated failures, else 0"};
constexpr Family kGpus = {"fr_node_gpus", "gauge", "GPUs of a node"};
constexpr Family kGpusUsed = {"fr_node_gpus_used", "gauge", "GPUs that a node's workers have"};
constexpr Family kGpuMemory = {"fr_node_gpu_memory_bytes", "gauge",
                               "Memory of a node's GPU, where it is known"};
constexpr Family kMemory = {"fr_node_memory_bytes", "gauge", "Memory of a node, where it is known"};
constexpr Family kReserved = {"fr_node_memory_reserved_bytes", "gauge",
                              "Memory that is set aside for a node's workers"};
constexpr Family kQueueJobs = {"fr_queue_jobs", "gauge", "Jobs that wait for slots"};
constexpr Family kQueueWait = {"fr_queue_wait_seconds", "gauge",
                               "How long the jobs that wait have waited, all together"};
constexpr Family kLongestWait = {"fr_queue_longest_wait_seconds", "gauge",
                                 "How long the job has waited that has waited longest"};
constexpr Family kUserJobs = {"fr_user_jobs", "gauge",
                              "Jobs of a user that run (state RUNNING) or wait (PENDING)"};
constexpr Family kUserWorkers = {"fr_user_workers", "gauge", "Workers of a user's jobs"};
constexpr Family kJobInfo = {"fr_job_info", "gauge", "What a job trains; always 1"};
constexpr Family kJobState = {"fr_job_state", "gauge", "1 for the state that a job is in, else 0"};
constexpr Family kWorkers = {"fr_job_workers", "gauge", "Workers that a job asks for"};
constexpr Family kStarted = {"fr_job_start_time_seconds", "gauge",
                             "When a job's first attempt was started, Unix time"};
constexpr Family kStep = {"fr_job_step", "gauge", "Steps done"};
constexpr Family kLastStep = {"fr_job_last_step", "gauge", "Steps after which the job is done"};
constexpr Family kRemaining = {"fr_job_remaining_seconds", "gauge",
                               "Estimate of the time to the job's end"};
constexpr Family kReported = {"fr_job_last_report_time_seconds", "gauge",
                              "When the latest of a job's metrics was measured, Unix time"};
constexpr Family kRestarts = {"fr_job_restarts_total", "counter", "Attempts beyond the first one"};
constexpr Family kPreemptions = {"fr_job_preemptions_total", "counter",
                                 "How often a job was stopped for one of higher priority"};
constexpr Family kWorkersNow = {"fr_job_workers_running", "gauge", "Workers that a job has"};
constexpr Family kRpc = {"fr_rpc_requests_total", "counter",
                         "Requests of commands and workers, by method and result"};
constexpr Family kHttp = {"fr_http_requests_total", "counter", "HTTP requests, by status"};

// What stands for `rule`'s label in `name`; nothing where the rule is not this name's.
std::optional<std::string> Match(const Rule& rule, std::string_view name) {
  if (rule.label == nullptr) return name == rule.prefix ? std::optional("") : std::nullopt;
  if (name.size() <= rule.prefix.size() + rule.suffix.size()) return std::nullopt;
  if (!name.starts_with(rule.prefix) || !name.ends_with(rule.suffix)) return std::nullopt;
  name.remove_prefix(rule.prefix.size());
  name.remove_suffix(rule.suffix.size());
  return std::string(name);
}

void AddMetric(Page* page, Labels labels, const MetricPoint& point) {
  for (const Rule& rule : kRules) {
    const std::optional<std::string> label = Match(rule, point.name());
    if (!label) continue;
    if (rule.label != nullptr) labels.emplace_back(rule.label, *label);
    return page->Add(rule.family, labels, point.value() * rule.unit);
  }
  labels.emplace_back("metric", point.name());
  page->Add(kOtherMetric, labels, point.value());
}

double Seconds(std::int64_t ms) { return static_cast<double>(ms) / 1000; }

void AddProgress(Page* page, const Labels& labels, const JobRecord& record) {
  const Progress& progress = record.progress();
  if (!record.has_progress()) return;
  page->Add(kStep, labels, static_cast<double>(progress.step()));
  page->Add(kLastStep, labels, static_cast<double>(progress.total_steps()));
  if (record.state() == JobState::RUNNING && progress.has_seconds_left()) {
    page->Add(kRemaining, labels, progress.seconds_left());
  }
}

void AddJob(Page* page, const JobFigures& job) {
  const JobRecord& record = job.record;
  const JobSpec& spec = record.spec();
  // Not "job": Prometheus itself gives every series a label of that name, the scraped target's.
  const Labels labels = {{"job_id", record.id()}, {"job_name", spec.name()}};
  Labels info = labels;
  info.emplace_back("network", Network_Name(spec.model().network()));
  info.emplace_back("loss", LossType_Name(spec.loss().type()));
  info.emplace_back("optimizer", OptimizerType_Name(spec.optimizer().type()));
  info.emplace_back("submitter", record.submitter());
  page->Add(kJobInfo, info, 1);
  for (int state = JobState_MIN; state <= JobState_MAX; ++state) {
    if (!JobState_IsValid(state)) continue;
    Labels with_state = labels;
    with_state.emplace_back("state", JobState_Name(static_cast<JobState>(state)));
    page->Add(kJobState, with_state, record.state() == state ? 1 : 0);
  }
  page->Add(kWorkers, labels, spec.resources().workers());
  page->Add(kStarted, labels, Seconds(record.started_ms()));
  page->Add(kRestarts, labels, record.restarts());
  page->Add(kPreemptions, labels, record.preemptions());
  page->Add(kWorkersNow, labels, NumWorkers(record.launch()));
  AddProgress(page, labels, record);
  std::int64_t reported_ms = 0;
  for (const MetricPoint& point : job.latest) {
    AddMetric(page, labels, point);
    reported_ms = std::max(reported_ms, point.time_ms());
  }
  if (reported_ms > 0) page->Add(kReported, labels, Seconds(reported_ms));
}

void AddGpus(Page* page, const NodeStatus& node) {
  for (int number = 0; number < node.gpu_list_size(); ++number) {
    const GpuDescription& gpu = node.gpu_list(number);
    if (gpu.memory_bytes() == 0) continue;
    page->Add(kGpuMemory,
              {{"node", node.name()}, {"gpu", std::to_string(number)}, {"model", gpu.model()}},
              static_cast<double>(gpu.memory_bytes()));
  }
}

void AddNode(Page* page, const NodeStatus& node) {
  const Labels labels = {{"node", node.name()}};
  page->Add(kNodeUp, labels, node.liveness() == NodeStatus::UP ? 1 : 0);
  page->Add(kDrained, labels, node.record().drained() ? 1 : 0);
  page->Add(kCordoned, labels, node.record().cordoned() ? 1 : 0);
  page->Add(kGpus, labels, node.gpus());
  page->Add(kGpusUsed, labels, node.gpus_used());
  AddGpus(page, node);
  if (node.memory_bytes() > 0) {
    page->Add(kMemory, labels, static_cast<double>(node.memory_bytes()));
  }
  page->Add(kReserved, labels, static_cast<double>(node.memory_reserved_bytes()));
}

void AddUser(Page* page, const UserStatus& user) {
  page->Add(kUserJobs, {{"user", user.name()}, {"state", JobState_Name(JobState::RUNNING)}},
            user.jobs_running());
  page->Add(kUserJobs, {{"user", user.name()}, {"state", JobState_Name(JobState::PENDING)}},
            user.jobs_waiting());
  page->Add(kUserWorkers, {{"user", user.name()}}, user.workers());
}

}  // namespace

std::string PrometheusText(const Snapshot& snapshot, const RequestCounts& rpc_requests,
                           const RequestCounts& http_requests) {
  Page page;
  page.Add(kBuildInfo, {{"version", kVersion}}, 1);
  page.Add(kStartTime, {}, Seconds(snapshot.started_ms));
  for (int state = JobState_MIN; state <= JobState_MAX; ++state) {
    if (!JobState_IsValid(state)) continue;
    const auto count = snapshot.jobs_by_state.find(static_cast<JobState>(state));
    page.Add(kJobs, {{"state", JobState_Name(static_cast<JobState>(state))}},
             count == snapshot.jobs_by_state.end() ? 0 : static_cast<double>(count->second));
  }
  for (const NodeStatus& node : snapshot.nodes) {
    page.Add(kSlots, {{"node", node.name()}}, node.slots());
    page.Add(kSlotsUsed, {{"node", node.name()}}, node.slots_used());
    AddNode(&page, node);
  }
  page.Add(kQueueJobs, {}, static_cast<double>(snapshot.queue.jobs));
  page.Add(kQueueWait, {}, snapshot.queue.wait_seconds);
  page.Add(kLongestWait, {}, snapshot.queue.longest_seconds);
  for (const UserStatus& user : snapshot.users) AddUser(&page, user);
  for (const JobFigures& job : snapshot.jobs) AddJob(&page, job);
  for (const auto& [key, count] : rpc_requests.Get()) {
    page.Add(kRpc, {{"method", key.first}, {"code", key.second}}, static_cast<double>(count));
  }
  for (const auto& [key, count] : http_requests.Get()) {
    page.Add(kHttp, {{"method", key.first}, {"code", key.second}}, static_cast<double>(count));
  }
  return page.Text();
}

}  // namespace fr
