#include "coordinator/api/prometheus.h"

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <set>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/temporary_directory.h"

namespace fr {
namespace {

using testing::HasSubstr;
using testing::Not;

MetricPoint Point(const std::string& name, double value, std::int64_t time_ms = 2500) {
  MetricPoint point;
  point.set_name(name);
  point.set_step(10);
  point.set_value(value);
  point.set_time_ms(time_ms);
  return point;
}

JobFigures Job(const std::vector<MetricPoint>& points = {}) {
  JobFigures job;
  job.record.set_id("job-3");
  job.record.set_state(JobState::RUNNING);
  job.record.set_started_ms(1500);
  job.record.set_restarts(2);
  job.record.set_submitter("ada@lab");
  job.record.mutable_spec()->set_name("ms1m");
  job.record.mutable_spec()->mutable_resources()->set_workers(8);
  job.latest = points;
  return job;
}

std::string Text(const Snapshot& snapshot) { return PrometheusText(snapshot, {}, {}); }

std::string TextOf(const JobFigures& job) {
  Snapshot snapshot;
  snapshot.jobs.push_back(job);
  return Text(snapshot);
}

// Whether the text has this line.
testing::Matcher<const std::string&> HasLine(const std::string& line) {
  return HasSubstr("\n" + line + "\n");
}

TEST(PrometheusText, ShowsTheCluster) {
  Snapshot snapshot;
  snapshot.started_ms = 1'700'000'000'250;
  snapshot.jobs_by_state = {{JobState::RUNNING, 2}};
  NodeStatus& node = snapshot.nodes.emplace_back();
  node.set_name("gpu-1");
  node.set_slots(8);
  node.set_slots_used(3);
  node.set_liveness(NodeStatus::UP);
  node.mutable_record()->set_cordoned(true);
  node.set_gpus(4);
  node.add_gpu_list()->set_model("GH200");  // its memory is not known
  GpuDescription& gpu = *node.add_gpu_list();
  gpu.set_model("NVIDIA H100 80GB HBM3");
  gpu.set_memory_bytes(85'520'809'984);
  node.set_memory_bytes(1024);
  node.set_memory_reserved_bytes(512);
  snapshot.queue = {2, 90, 60.5};
  UserStatus& user = snapshot.users.emplace_back();
  user.set_name("ada");
  user.set_workers(3);
  user.set_jobs_waiting(2);
  RequestCounts rpc;
  rpc.Add("worker_report", "OK");
  rpc.Add("worker_report", "OK");
  RequestCounts http;
  http.Add("GET", "404");
  const std::string text = PrometheusText(snapshot, rpc, http);
  EXPECT_THAT(text, HasLine("process_start_time_seconds 1700000000.25"));
  EXPECT_THAT(text, HasLine("fr_jobs{state=\"RUNNING\"} 2"));
  EXPECT_THAT(text, HasLine("fr_jobs{state=\"FAILED\"} 0"));
  EXPECT_THAT(text, HasLine("fr_node_slots{node=\"gpu-1\"} 8"));
  EXPECT_THAT(text, HasLine("fr_node_slots_used{node=\"gpu-1\"} 3"));
  EXPECT_THAT(text, HasLine("fr_node_up{node=\"gpu-1\"} 1"));
  EXPECT_THAT(text, HasLine("fr_node_drained{node=\"gpu-1\"} 0"));
  EXPECT_THAT(text, HasLine("fr_node_cordoned{node=\"gpu-1\"} 1"));
  EXPECT_THAT(text, HasLine("fr_node_gpus{node=\"gpu-1\"} 4"));
  EXPECT_THAT(text, HasLine("fr_node_gpu_memory_bytes{node=\"gpu-1\",gpu=\"1\","
                            "model=\"NVIDIA H100 80GB HBM3\"} 85520809984"));
  EXPECT_THAT(text, Not(HasSubstr("GH200")));
  EXPECT_THAT(text, HasLine("fr_node_memory_bytes{node=\"gpu-1\"} 1024"));
  EXPECT_THAT(text, HasLine("fr_node_memory_reserved_bytes{node=\"gpu-1\"} 512"));
  EXPECT_THAT(text, HasLine("fr_queue_jobs 2"));
  EXPECT_THAT(text, HasLine("fr_queue_wait_seconds 90"));
  EXPECT_THAT(text, HasLine("fr_queue_longest_wait_seconds 60.5"));
  EXPECT_THAT(text, HasLine("fr_user_workers{user=\"ada\"} 3"));
  EXPECT_THAT(text, HasLine("fr_user_jobs{user=\"ada\",state=\"PENDING\"} 2"));
  EXPECT_THAT(text, HasLine("fr_rpc_requests_total{method=\"worker_report\",code=\"OK\"} 2"));
  EXPECT_THAT(text, HasLine("fr_http_requests_total{method=\"GET\",code=\"404\"} 1"));
}

TEST(PrometheusText, ShowsHowAJobStands) {
  JobFigures job = Job({Point("train/loss", 4.5, 2500), Point("train/lr", 0.1, 7250)});
  job.record.mutable_progress()->set_step(120);
  job.record.mutable_progress()->set_total_steps(5000);
  job.record.mutable_progress()->set_seconds_left(90.5);
  const std::string text = TextOf(job);
  const std::string labels = "{job_id=\"job-3\",job_name=\"ms1m\"}";
  EXPECT_THAT(text, HasLine("fr_job_info{job_id=\"job-3\",job_name=\"ms1m\",network=\"r50\","
                            "loss=\"arcface\",optimizer=\"sgd\",submitter=\"ada@lab\"} 1"));
  EXPECT_THAT(text,
              HasLine("fr_job_state{job_id=\"job-3\",job_name=\"ms1m\",state=\"RUNNING\"} 1"));
  EXPECT_THAT(text, HasLine("fr_job_state{job_id=\"job-3\",job_name=\"ms1m\",state=\"FAILED\"} 0"));
  EXPECT_THAT(text, HasLine("fr_job_workers" + labels + " 8"));
  EXPECT_THAT(text, HasLine("fr_job_start_time_seconds" + labels + " 1.5"));
  EXPECT_THAT(text, HasLine("fr_job_restarts_total" + labels + " 2"));
  EXPECT_THAT(text, HasLine("fr_job_preemptions_total" + labels + " 0"));
  EXPECT_THAT(text, HasLine("fr_job_step" + labels + " 120"));
  EXPECT_THAT(text, HasLine("fr_job_last_step" + labels + " 5000"));
  EXPECT_THAT(text, HasLine("fr_job_remaining_seconds" + labels + " 90.5"));
  EXPECT_THAT(text, HasLine("fr_job_last_report_time_seconds" + labels + " 7.25"));
}

// Nothing is said of what is not known.
TEST(PrometheusText, AJobThatHasOnlyBeenStartedHasNoFigures) {
  const std::string text = TextOf(Job());
  EXPECT_THAT(text, Not(HasSubstr("fr_job_step{")));
  EXPECT_THAT(text, Not(HasSubstr("fr_job_last_report_time_seconds")));
  EXPECT_THAT(text, Not(HasSubstr("fr_train_")));
}

struct Example {
  const char* metric;
  double value;
  const char* family;
  const char* label;  // beside job_id and job_name
  const char* text;
};

// In base units, with what varies as a label.
constexpr Example kExamples[] = {
    {"train/loss", 4.3125, "fr_train_loss", "", "4.3125"},
    {"train/accuracy", 0.5, "fr_train_accuracy", "", "0.5"},
    {"train/gradient_norm", 1e-7, "fr_train_gradient_norm", "", "1e-07"},
    {"train/lr", 0.1, "fr_train_learning_rate", "", "0.1"},
    {"train/images_per_second", 1834, "fr_train_images_per_second", "", "1834"},
    {"train/epoch", 2.25, "fr_train_epochs", "", "2.25"},
    {"train/data_wait_share", 0.25, "fr_train_data_wait_ratio", "", "0.25"},
    {"train/bad_records", 3, "fr_train_bad_records_total", "", "3"},
    {"train/skipped_steps", 2, "fr_train_skipped_steps_total", "", "2"},
    {"train/memory_gib", 1.5, "fr_train_memory_bytes", "", "1610612736"},
    {"train/gpu_memory_gib", 0.5, "fr_train_gpu_memory_bytes", "", "536870912"},
    {"train/time/head_ms", 250, "fr_train_phase_seconds", ",phase=\"head\"", "0.25"},
    {"head/dropped_mass", 0.001, "fr_head_dropped_mass", "", "0.001"},
    {"head/skipped_share", 0.75, "fr_head_skipped_ratio", "", "0.75"},
    {"shard/12/targets", 0.5, "fr_shard_targets_ratio", ",rank=\"12\"", "0.5"},
    {"triplet/active_share", 0.5, "fr_triplet_active_ratio", "", "0.5"},
    {"triplet/active", 96, "fr_triplet_active", "", "96"},
    {"val/lfw/accuracy", 0.9943, "fr_validation_accuracy", ",set=\"lfw\"", "0.9943"},
    {"val/lfw/accuracy_std", 0.003, "fr_validation_accuracy_stddev", ",set=\"lfw\"", "0.003"},
    {"val/lfw/auc", 0.5, "fr_validation_auc", ",set=\"lfw\"", "0.5"},
    {"val/lfw/eer", 0.5, "fr_validation_eer", ",set=\"lfw\"", "0.5"},
    {"val/lfw/tar_at_far_1e-3", 0.5, "fr_validation_tar_at_far_1e3", ",set=\"lfw\"", "0.5"},
    {"val/lfw/threshold", 1.25, "fr_validation_threshold", ",set=\"lfw\"", "1.25"},
    {"val/lfw/embedding_norm", 20, "fr_validation_embedding_norm", ",set=\"lfw\"", "20"},
    {"checkpoint/stall_ms", 500, "fr_checkpoint_stall_seconds", "", "0.5"},
    {"checkpoint/write_ms", 1500, "fr_checkpoint_write_seconds", "", "1.5"},
    {"another/new_metric", 7, "fr_job_metric", ",metric=\"another/new_metric\"", "7"},
    {"val//accuracy", 1, "fr_job_metric", ",metric=\"val//accuracy\"", "1"},
    {"train/loss2", 1, "fr_job_metric", ",metric=\"train/loss2\"", "1"},
};

TEST(PrometheusText, EveryMetricHasItsFamily) {
  for (const Example& example : kExamples) {
    EXPECT_THAT(TextOf(Job({Point(example.metric, example.value)})),
                HasLine(std::string(example.family) + "{job_id=\"job-3\",job_name=\"ms1m\"" +
                        example.label + "} " + example.text));
  }
}

TEST(PrometheusText, ValuesOfADivergedRunAreShownAsSuch) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  const std::string labels = "{job_id=\"job-3\",job_name=\"ms1m\"} ";
  EXPECT_THAT(TextOf(Job({Point("train/loss", std::nan(""))})),
              HasLine("fr_train_loss" + labels + "NaN"));
  EXPECT_THAT(TextOf(Job({Point("train/loss", kInf)})), HasLine("fr_train_loss" + labels + "+Inf"));
  EXPECT_THAT(TextOf(Job({Point("train/loss", -kInf)})),
              HasLine("fr_train_loss" + labels + "-Inf"));
}

// One byte that is no UTF-8 would cost the whole page.
TEST(PrometheusText, LabelsAreEscapedAndUtf8) {
  const std::string labels = "{job_id=\"job-3\",job_name=\"ms1m\",set=";
  EXPECT_THAT(TextOf(Job({Point("val/a\"b\\c\nd/auc", 1)})),
              HasLine("fr_validation_auc" + labels + R"("a\"b\\c\nd"} 1)"));
  EXPECT_THAT(TextOf(Job({Point("val/\xff\xc3\xa9/auc", 1)})),
              HasLine("fr_validation_auc" + labels + "\"\xEF\xBF\xBD\xC3\xA9\"} 1"));
}

Snapshot Everything() {
  std::vector<MetricPoint> points;
  for (const Example& example : kExamples) points.push_back(Point(example.metric, example.value));
  JobFigures first = Job(points);
  first.record.mutable_progress()->set_step(1);
  first.record.mutable_progress()->set_seconds_left(1);
  JobFigures second = first;
  second.record.set_id("job-4");
  Snapshot snapshot;
  snapshot.jobs = {first, second};
  snapshot.nodes.emplace_back().set_name("node");
  for (const std::int64_t bytes : {1, 2}) {
    snapshot.nodes.back().add_gpu_list()->set_memory_bytes(bytes);
  }
  return snapshot;
}

// The format: each family once, with its help and type before all of its samples.
TEST(PrometheusText, EachFamilyStandsTogether) {
  std::istringstream lines(Text(Everything()));
  std::set<std::string> families;
  std::string family;
  std::string line;
  while (std::getline(lines, line)) {
    if (line.starts_with("# HELP ")) {
      family = line.substr(7, line.find(' ', 7) - 7);
      EXPECT_TRUE(families.insert(family).second) << family << " stands there twice";
      std::getline(lines, line);
      EXPECT_TRUE(line.starts_with("# TYPE " + family + " ")) << line;
    } else {
      EXPECT_EQ(line.substr(0, line.find_first_of("{ ")), family);
    }
  }
  EXPECT_TRUE(families.contains("fr_train_loss"));
}

// Prometheus' own tool reads the page and has nothing against names and units.
TEST(PrometheusText, PromtoolHasNoComplaint) {
  if (std::system("promtool --version >/dev/null 2>&1") != 0) {
    GTEST_SKIP() << "promtool is not here: install the Debian package prometheus";
  }
  RequestCounts counts;
  counts.Add("ping", "OK");
  const TemporaryDirectory directory;
  const std::string page = (directory.path() / "page").string();
  std::ofstream(page) << PrometheusText(Everything(), counts, counts);
  EXPECT_EQ(std::system(("promtool check metrics < '" + page + "'").c_str()), 0);
}

}  // namespace
}  // namespace fr
