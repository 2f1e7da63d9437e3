#include "coordinator/launch/slurm_text.h"

#include <algorithm>
#include <functional>
#include <random>
#include <string>
#include <string_view>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"

namespace fr {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr std::int64_t kMiB = std::int64_t{1} << 20;
constexpr std::int64_t kGiB = std::int64_t{1} << 30;

// What Slurm prints, with | for the separator.
std::string Printed(std::string text) {
  std::replace(text.begin(), text.end(), '|', '\x1f');
  return text;
}

SlurmScript Script() {
  SlurmScript script;
  script.job_name = "fr-job-12-2";
  script.title = "attempt 2 of job-12";
  script.directory = "/state/jobs/job-12/attempt-2";
  script.tasks = 8;
  script.cpus_per_task = 4;
  script.command = {"srun", "--mpi=pmix", "/opt/fr/fr-worker", "--job-id", "job-12"};
  return script;
}

ErrorCode CodeOf(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::kInternal;
}

TEST(ScriptText, TellsSlurmWhatTheAttemptNeeds) {
  SlurmScript script = Script();
  script.task_bytes = 6 * kGiB + 1;  // over four CPUs: 1536 MiB and a little
  script.gpus = true;
  script.partition = "gpu";
  script.account = "faces";
  script.sbatch_args = {"--qos=long", "--comment", "two words"};
  const std::string text = ScriptText(script);
  EXPECT_THAT(text, testing::StartsWith("#!/bin/sh\n# attempt 2 of job-12, for Slurm;"));
  for (const char* line :
       {"--job-name=fr-job-12-2", "--chdir=/state/jobs/job-12/attempt-2",
        "--output=/state/jobs/job-12/attempt-2/worker.log", "--open-mode=append", "--ntasks=8",
        "--cpus-per-task=4", "--mem-per-cpu=1537", "--gpus-per-task=1", "--no-requeue",
        "--export=ALL", "--partition=gpu", "--account=faces", "--qos=long --comment 'two words'"}) {
    EXPECT_THAT(text, HasSubstr(std::string("\n#SBATCH ") + line + "\n"));
  }
  EXPECT_THAT(text, HasSubstr("\nsrun --mpi=pmix /opt/fr/fr-worker --job-id job-12 &\n"));
  EXPECT_THAT(text, HasSubstr("export OMP_NUM_THREADS=4\n"));
}

// What is not known or not asked for is left to Slurm.
TEST(ScriptText, LeavesTheRestToSlurm) {
  EXPECT_THAT(ScriptText(Script()),
              testing::AllOf(Not(HasSubstr("--mem")), Not(HasSubstr("gpu")),
                             Not(HasSubstr("--partition")), Not(HasSubstr("--account"))));
}

// sbatch refuses a script with two of --mem, --mem-per-cpu and --mem-per-gpu.
TEST(ScriptText, LetsTheConfigurationSayTheMemory) {
  SlurmScript script = Script();
  script.task_bytes = 6 * kGiB;
  script.sbatch_args = {"--mem=0"};
  EXPECT_THAT(ScriptText(script), Not(HasSubstr("--mem-per-cpu")));
}

// Patterns in names of files, and a backslash even in quotes, are sbatch's to read.
TEST(ScriptText, QuotesForSbatchAndForTheShell) {
  SlurmScript script = Script();
  script.directory = "/it's 100%/a\\b";
  script.command = {"/opt/my tools/srun", "a\\b"};
  const std::string text = ScriptText(script);
  EXPECT_THAT(text, HasSubstr("#SBATCH '--chdir=/it'\\''s 100%/a\\\\b'\n"));
  EXPECT_THAT(text, HasSubstr("#SBATCH '--output=/it'\\''s 100%%/a\\\\b/worker.log'\n"));
  EXPECT_THAT(text, HasSubstr("\ndirectory='/it'\\''s 100%/a\\b'\n"));
  EXPECT_THAT(text, HasSubstr("\n'/opt/my tools/srun' 'a\\b' &\n"));
  script.sbatch_args = {"--comment=a\n#SBATCH --uid=0"};
  EXPECT_EQ(CodeOf([&] { ScriptText(script); }), ErrorCode::kInvalidArgument);
}

TEST(ParseJobNumber, TakesWhatSbatchPrints) {
  EXPECT_EQ(ParseJobNumber("123\n"), "123");
  EXPECT_EQ(ParseJobNumber("123;alps\n"), "123");
  for (const char* odd : {"", "\n", "Submitted batch job 123\n", "-1\n", "12x\n"}) {
    EXPECT_EQ(CodeOf([&] { ParseJobNumber(odd); }), ErrorCode::kDataLoss) << odd;
  }
}

// Words of Slurm 22.05.
TEST(IsPassing, TellsATroubleOfSlurmsFromAJobItWillNeverTake) {
  for (const char* passing :
       {"sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect "
        "failure)\n",
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n",
        "sbatch: error: Batch job submission failed: Protocol authentication error\n",
        "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"}) {
    EXPECT_TRUE(IsPassing(passing)) << passing;
  }
  for (const char* final :
       {"sbatch: error: Batch job submission failed: Invalid partition name specified\n",
        "sbatch: error: Batch job submission failed: Requested node configuration is not "
        "available\n",
        "sbatch: error: Invalid generic resource (gres) specification\n",
        "sbatch: unrecognized option '--nonsense'\n"}) {
    EXPECT_FALSE(IsPassing(final)) << final;
  }
}

// As Slurm 22.05 printed them.
TEST(ParseJobs, ReadsWhatSqueuePrints) {
  const std::vector<SlurmJob> jobs =
      ParseJobs(Printed("2|FAILED|768|n1|NonZeroExitCode|/tmp/sl/a b%c\n"
                        "8|PENDING|0||PartitionConfig|/tmp/sl\n"
                        "11|NODE_FAIL|15|n[1-2]|NodeDown|/tmp/sl\n"));
  ASSERT_EQ(jobs.size(), 3U);
  EXPECT_EQ(jobs[0].number, "2");
  EXPECT_EQ(jobs[0].state, "FAILED");
  EXPECT_EQ(jobs[0].exit_status, 3);
  EXPECT_EQ(jobs[0].nodes, "n1");
  EXPECT_EQ(jobs[0].directory, "/tmp/sl/a b%c");
  EXPECT_EQ(jobs[1].reason, "PartitionConfig");
  EXPECT_EQ(jobs[1].exit_status, std::nullopt);
  EXPECT_EQ(jobs[2].exit_status, std::nullopt);  // Slurm's own signal
  EXPECT_TRUE(ParseJobs("").empty());
}

// Exit codes come as wait() gives them or, from other versions, in two parts.
TEST(ParseJobs, ReadsExitCodes) {
  const auto exit_status = [](const std::string& text) {
    return ParseJobs(Printed("2|FAILED|" + text + "|n1|None|/d")).at(0).exit_status;
  };
  EXPECT_EQ(exit_status("256"), 1);
  EXPECT_EQ(exit_status("9"), 137);
  EXPECT_EQ(exit_status("3:0"), 3);
  EXPECT_EQ(exit_status("0:9"), 137);
}

// Half an answer is none: an attempt that is missing in it would count as ended.
TEST(ParseJobs, RefusesWhatIsNoListOfJobs) {
  for (const char* odd :
       {"2|FAILED|768|n1|None", "2|FAILED|768|n1|None|/d|more", "x|FAILED|768|n1|None|/d",
        "2|FAILED|many|n1|None|/d", "2|FAILED|1:x|n1|None|/d", "CLUSTER: alps", "2 FAILED",
        "\x01\xff||||", "99999999999999999999|FAILED|0|n1|None|/d"}) {
    EXPECT_EQ(CodeOf([&] { ParseJobs(Printed(odd)); }), ErrorCode::kDataLoss) << odd;
  }
}

AttemptStatus StatusOf(const std::string& state, const std::string& reason = "None",
                       const std::string& exit_code = "0") {
  return fr::StatusOf(
      ParseJobs(Printed("7|" + state + "|" + exit_code + "|n1|" + reason + "|/d")).at(0));
}

TEST(StatusOf, KnowsEveryStateOfSlurm) {
  for (const char* queued : {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT",
                             "RESV_DEL_HOLD", "REQUEUE_FED"}) {
    EXPECT_EQ(StatusOf(queued).phase, AttemptPhase::kQueued) << queued;
    EXPECT_NE(StatusOf(queued).reason, "") << queued;
  }
  // A job that completes still has processes.
  for (const char* running :
       {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}) {
    EXPECT_EQ(StatusOf(running).phase, AttemptPhase::kRunning) << running;
  }
  for (const char* ended : {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "PREEMPTED", "NODE_FAIL",
                            "BOOT_FAIL", "DEADLINE", "OUT_OF_MEMORY", "REVOKED"}) {
    EXPECT_EQ(StatusOf(ended).phase, AttemptPhase::kEnded) << ended;
  }
  const AttemptStatus strange = StatusOf("DREAMING");
  EXPECT_EQ(strange.phase, AttemptPhase::kUnknown);
  EXPECT_THAT(strange.reason, HasSubstr("DREAMING"));
}

TEST(StatusOf, SaysWhyInWords) {
  EXPECT_EQ(StatusOf("PENDING", "Resources").reason, "in Slurm's queue: Resources");
  EXPECT_EQ(StatusOf("PENDING").reason, "in Slurm's queue");
  EXPECT_EQ(StatusOf("PENDING", "JobHeldAdmin").reason,
            "held in Slurm's queue (JobHeldAdmin); scontrol release 7 lets it go");
  EXPECT_THAT(StatusOf("SUSPENDED").reason, HasSubstr("scontrol resume 7"));
  EXPECT_EQ(StatusOf("COMPLETED").reason, "");
  EXPECT_EQ(StatusOf("FAILED", "NonZeroExitCode", "768").reason, "");
  EXPECT_EQ(StatusOf("FAILED", "NonZeroExitCode", "768").exit_status, 3);
  EXPECT_EQ(StatusOf("TIMEOUT", "TimeLimit").reason, "Slurm's job 7 ran into its time limit");
  EXPECT_EQ(StatusOf("CANCELLED").reason, "Slurm's job 7 was cancelled");
  EXPECT_EQ(StatusOf("FAILED", "BadConstraints").reason, "Slurm's job 7: FAILED (BadConstraints)");
}

// Such an end is not the job's fault, and costs it no restart.
TEST(StatusOf, KnowsWhatSlurmTookAway) {
  for (const char* taken : {"NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "TIMEOUT"}) {
    EXPECT_TRUE(StatusOf(taken).nodes_lost) << taken;
  }
  for (const char* own : {"FAILED", "CANCELLED", "OUT_OF_MEMORY", "COMPLETED"}) {
    EXPECT_FALSE(StatusOf(own).nodes_lost) << own;
  }
}

TEST(ParseNodes, ReadsWhatSinfoPrints) {
  const std::vector<SlurmNode> nodes =
      ParseNodes(Printed("n1|idle|up|main*|2|4000|(null)|none\n"
                         "n3|drained|up|gpu|64|512000|gpu:a100:4(S:0-1)|bad disk, see #12\n"));
  ASSERT_EQ(nodes.size(), 2U);
  EXPECT_EQ(nodes[0].name, "n1");
  EXPECT_TRUE(nodes[0].partition_default);
  EXPECT_EQ(nodes[0].memory_bytes, 4000 * kMiB);
  EXPECT_FALSE(nodes[1].partition_default);
  EXPECT_EQ(nodes[1].cpus, 64);
  EXPECT_EQ(nodes[1].gpus, 4);
  EXPECT_EQ(nodes[1].reason, "bad disk, see #12");
  for (const char* odd : {"n1|idle", "n1|idle|up|main*|two|4000|(null)|none",
                          "n1|idle|up|main*|2|4000+|(null)|none"}) {
    EXPECT_EQ(CodeOf([&] { ParseNodes(Printed(odd)); }), ErrorCode::kDataLoss) << odd;
  }
}

TEST(TakesTasks, KnowsUsableNodes) {
  const auto takes = [](const std::string& state, bool up = true) {
    SlurmNode node;
    node.state = state;
    node.partition_up = up;
    return TakesTasks(node);
  };
  for (const char* usable : {"idle", "mixed", "allocated", "completing", "planned", "idle~",
                             "idle#", "mixed-", "idle*", "unknown", "allocated*", "powering_up"}) {
    EXPECT_TRUE(takes(usable)) << usable;
  }
  for (const char* unusable : {"down", "down*", "drained", "draining", "drained*", "fail", "maint",
                               "reserved", "inval", "future", "idle$", "mixed@", "", "*"}) {
    EXPECT_FALSE(takes(unusable)) << unusable;
  }
  EXPECT_FALSE(takes("idle", false));
}

TEST(CountGpus, AddsUpAllKinds) {
  EXPECT_EQ(CountGpus("(null)"), 0);
  EXPECT_EQ(CountGpus(""), 0);
  EXPECT_EQ(CountGpus("gpu:4"), 4);
  EXPECT_EQ(CountGpus("gpu"), 1);
  EXPECT_EQ(CountGpus("gpu:a100:4(S:0-1)"), 4);
  EXPECT_EQ(CountGpus("gpu:a100:4(S:0,1),gpu:v100:2,nic:1"), 6);
  EXPECT_EQ(CountGpus("gpus:8,mps:gpu:3"), 0);
  EXPECT_EQ(CountGpus("gpu:99999999999999999999(((,gpu:2"), 1);  // odd, and no crash
}

NodeReport Sum(const std::string& printed, int gpus = 0) {
  NodeSpec config;
  config.set_name("slurm");
  if (gpus > 0) config.set_gpus(gpus);
  return SumNodes(config, ParseNodes(Printed(printed)));
}

// A dead node makes the cluster smaller, and is named.
TEST(SumNodes, CountsUsableNodesOnce) {
  const NodeReport report =
      Sum("n1|mixed|up|main*|16|64000|gpu:4|none\n"
          "n2|down*|up|main*|16|64000|gpu:4|Not responding\n"
          "n3|idle|up|main*|8|32000|(null)|none\n"
          "n3|idle|up|main*|8|32000|(null)|none\n");
  EXPECT_EQ(report.name, "slurm");
  EXPECT_EQ(report.liveness, NodeStatus::UP);
  EXPECT_EQ(report.cpus, 24);
  EXPECT_EQ(report.gpus, 4);
  EXPECT_EQ(report.memory_bytes, 96000 * kMiB);
  EXPECT_EQ(report.usable_slots, 24);
  EXPECT_EQ(report.reason, "1 of 3 nodes take no jobs: n2 down* (Not responding)");
}

// Where the cluster's GPUs are configured, a slot is one of them.
TEST(SumNodes, CountsGpusAsSlotsWhereTheyAreConfigured) {
  const char* nodes =
      "n1|idle|up|main*|64|64000|gpu:4|none\n"
      "n2|idle|up|main*|2|64000|gpu:4|none\n";
  EXPECT_EQ(Sum(nodes).usable_slots, 66);
  EXPECT_EQ(Sum(nodes, 8).usable_slots, 8);
}

// Without a partition in the configuration jobs go to Slurm's default.
TEST(SumNodes, CountsTheDefaultPartition) {
  EXPECT_EQ(Sum("n1|idle|up|main*|2|4000|(null)|none\n"
                "n1|idle|up|all|2|4000|(null)|none\n"
                "n2|idle|up|all|2|4000|(null)|none\n")
                .usable_slots,
            2);
  EXPECT_EQ(Sum("n2|idle|up|all|2|4000|(null)|none\n").usable_slots, 2);
}

TEST(SumNodes, OfNothingIsDown) {
  EXPECT_EQ(Sum("").liveness, NodeStatus::DOWN);
  EXPECT_NE(Sum("").reason, "");
  EXPECT_EQ(Sum("n1|down|up|main*|2|4000|(null)|fan\n").liveness, NodeStatus::UP);
  EXPECT_EQ(Sum("n1|down|up|main*|2|4000|(null)|fan\n").usable_slots, 0);
}

// Slurm's output with some of its bytes changed, doubled or lost, is an error or a list: never the
// end of the coordinator. The sanitizers watch.
TEST(SlurmText, MutatedOutputIsAListOrAnError) {
  const std::string jobs = Printed(
      "2|FAILED|768|n[1-2,7]|NonZeroExitCode|/state/jobs/job-1/attempt-1\n"
      "11|NODE_FAIL|15:0|n[1-2]|NodeDown|/state\n");
  const std::string nodes = Printed(
      "n1|idle*|up|main*|2|4000|(null)|none\n"
      "n3|drained|up|gpu|64|512000|gpu:a100:4(S:0-1),gpu:2|bad disk\n");
  constexpr std::string_view kBytes = "0123456789999-:*|[]()\x1f\n\0";
  std::mt19937 random(1);
  const auto below = [&random](std::size_t end) { return random() % end; };
  for (int round = 0; round < 5000; ++round) {
    for (std::string text : {jobs, nodes}) {
      for (std::size_t change = below(4) + 1; change > 0 && !text.empty(); --change) {
        const std::size_t at = below(text.size());
        switch (below(4)) {
          case 0:
            text[at] = kBytes[below(kBytes.size())];
            break;
          case 1:
            text.insert(at, below(30), kBytes[below(kBytes.size())]);
            break;
          case 2:
            text.erase(at, below(20));
            break;
          default:
            text.resize(at);
        }
      }
      try {
        for (const SlurmJob& job : ParseJobs(text)) fr::StatusOf(job);
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
      }
      try {
        NodeSpec config;
        config.set_name("slurm");
        config.set_slots(64);
        SumNodes(config, ParseNodes(text));
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
      }
    }
  }
}

}  // namespace
}  // namespace fr
