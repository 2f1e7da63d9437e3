#include "coordinator/api/json.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace fr {
namespace {

using nlohmann::json;

// Whoever reads a job need not know the schema's defaults.
TEST(MessageJson, FillsInDefaults) {
  JobSpec spec;
  spec.set_name("x");
  const json object = MessageJson(spec);
  EXPECT_EQ(object["name"], "x");
  EXPECT_EQ(object["priority"], 50);
  EXPECT_EQ(object["model"]["network"], "r50");
  EXPECT_EQ(object["optimizer"]["schedule"]["type"], "polynomial");
  EXPECT_EQ(object["optimizer"]["lr"], 0.1);
  EXPECT_EQ(object["data"]["augment"]["flip"], 0.5);
  EXPECT_EQ(object["loss"]["easy_margin"], false);
  EXPECT_EQ(object["data"]["validation"], json::array());
  // No default, not given: null, not a made-up value.
  EXPECT_TRUE(object["data"]["train"].is_null());
  EXPECT_TRUE(object["train"]["max_steps"].is_null());
}

TEST(MessageJson, KeepsNumbersWholeAndNumeric) {
  JobSpec spec;
  spec.mutable_train()->set_seed(std::numeric_limits<std::uint64_t>::max());
  spec.mutable_train()->set_max_steps(std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(DumpJson(MessageJson(spec)["train"]["seed"]), "18446744073709551615");
  EXPECT_EQ(DumpJson(MessageJson(spec)["train"]["max_steps"]), "9223372036854775807");
}

// JSON has no NaN: a loss that overflowed must not make the answer invalid.
TEST(MetricsJson, TurnsNumbersThatAreNotFiniteIntoNull) {
  GetMetricsReply reply;
  MetricSeries& series = *reply.add_series();
  series.set_name("train/loss");
  for (const double value : {1.5, std::nan(""), static_cast<double>(INFINITY)}) {
    series.add_steps(series.steps_size());
    series.add_values(value);
    series.add_times_ms(7);
  }
  EXPECT_EQ(DumpJson(MetricsJson(reply)),
            R"({"series":[{"name":"train/loss","steps":[0,1,2],"times_ms":[7,7,7],)"
            R"("values":[1.5,null,null]}]})");
}

TEST(JobSummaryJson, IsNullWhereNothingHasHappenedYet) {
  JobRecord job;
  job.set_id("job-1");
  const json object = JobSummaryJson(job, {});
  EXPECT_TRUE(object["started_ms"].is_null());
  EXPECT_TRUE(object["ended_ms"].is_null());
  EXPECT_TRUE(object["progress"].is_null());
  EXPECT_EQ(object["state"], "PENDING");
}

TEST(LatestAccuracies, TakesTheLastPointOfEachSetInTheJobsOrder) {
  JobSpec spec;
  for (const char* entry : {"/data/lfw.bin", "agedb_30", "cfp_fp"}) {
    spec.mutable_data()->add_validation(entry);
  }
  EXPECT_EQ(AccuracyMetricNames(spec),
            (std::vector<std::string>{"val/lfw/accuracy", "val/agedb_30/accuracy",
                                      "val/cfp_fp/accuracy"}));
  GetMetricsReply reply;
  for (const char* name : {"val/agedb_30/accuracy", "val/lfw/accuracy"}) {
    MetricSeries& series = *reply.add_series();
    series.set_name(name);
    for (const int step : {0, 100}) {
      series.add_steps(step);
      series.add_values(0.5 + step / 400.0);
    }
  }
  const std::vector<ValidationResult> latest = LatestAccuracies(spec, reply);
  ASSERT_EQ(latest.size(), 2U);
  EXPECT_EQ(latest[0].set(), "lfw");
  EXPECT_EQ(latest[0].step(), 100);
  EXPECT_DOUBLE_EQ(latest[0].accuracy(), 0.75);
  EXPECT_EQ(latest[1].set(), "agedb_30");
}

// A chunk of a log may end inside of a character; the rest comes with the next one.
TEST(LogsJson, LeavesACutCharacterForTheNextAnswer) {
  const std::string text = "gr\xc3\xbc\xe2\x82\xac\xf0\x9f\x99\x82";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    GetLogsReply first;
    first.set_text(text.substr(0, cut));
    first.set_next_offset(static_cast<std::int64_t>(cut));
    const json answer = LogsJson(first);
    GetLogsReply second;
    second.set_text(text.substr(answer["next_offset"]));
    EXPECT_EQ(answer["text"].get<std::string>() + LogsJson(second)["text"].get<std::string>(),
              text);
    EXPECT_NO_THROW(json::parse(DumpJson(answer)));
    EXPECT_EQ(DumpJson(answer).find("\xef\xbf\xbd"), std::string::npos) << cut;
  }
}

TEST(LogsJson, ReplacesWhatIsNoText) {
  GetLogsReply reply;
  reply.set_text(std::string("a\xff\x00z", 4));
  reply.set_next_offset(4);
  EXPECT_EQ(json::parse(DumpJson(LogsJson(reply)))["text"], std::string("a\xef\xbf\xbd\x00z", 6));
  EXPECT_EQ(LogsJson(reply)["next_offset"], 4);
}

// One entry a GPU, so that mixed nodes need no other form; none where nobody has looked.
TEST(NodesJson, DescribesEachGpu) {
  ListNodesReply reply;
  reply.add_nodes()->set_name("cluster");
  NodeStatus& node = *reply.add_nodes();
  GpuDescription& gpu = *node.add_gpu_list();
  gpu.set_model("NVIDIA H100 80GB HBM3");
  gpu.set_memory_bytes(85'520'809'984);
  node.add_gpu_list()->set_model("NVIDIA GB10");
  const json nodes = NodesJson(reply)["nodes"];
  EXPECT_EQ(nodes[0]["gpu_list"], json::array());
  EXPECT_EQ(nodes[1]["gpu_list"],
            json::array({{{"model", "NVIDIA H100 80GB HBM3"}, {"memory_bytes", 85'520'809'984}},
                         {{"model", "NVIDIA GB10"}, {"memory_bytes", 0}}}));
}

// A checksum does not fit JavaScript's numbers.
TEST(CheckpointsJson, WritesChecksumsAsText) {
  ListCheckpointsReply reply;
  CheckpointManifest& manifest = *reply.add_checkpoints();
  CheckpointFile& head = *manifest.add_files();
  head.set_bytes(100);
  head.set_xxh3(0x00ff00000000000aULL);
  head.mutable_identities()->set_begin(3);
  head.mutable_identities()->set_end(7);
  manifest.add_files()->set_bytes(20);
  const json checkpoint = CheckpointsJson(reply)["checkpoints"][0];
  EXPECT_EQ(checkpoint["bytes"], 120);
  EXPECT_EQ(checkpoint["files"][0]["xxh3"], "00ff00000000000a");
  EXPECT_EQ(checkpoint["files"][0]["identities"], (json{{"begin", 3}, {"end", 7}}));
  EXPECT_TRUE(checkpoint["files"][1]["identities"].is_null());
}

}  // namespace
}  // namespace fr
