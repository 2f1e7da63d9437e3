#include "coordinator/launch/slurm_launcher.h"

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <thread>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "coordinator/launch/attempt_files.h"
#include "coordinator/launch/program.h"
#include "tests/coordinator/launch/fake_slurm.h"
#include "tests/coordinator/wait_for.h"

namespace fr {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr const char* kIdleNode = "n1|idle|up|main*|8|4000|(null)|none\n";

class SlurmLauncher : public testing::Test {
 protected:
  SlurmLauncher() {
    slurm_.Prints("sbatch", "17\n");
    slurm_.Prints("sinfo", kIdleNode);
    spec_.set_launcher(LauncherKind::slurm);
    spec_.mutable_slurm()->set_bin_dir(slurm_.bin_dir().string());
    spec_.mutable_slurm()->set_poll_every_ms(0);
    NodeSpec* node = spec_.add_nodes();
    node->set_name("slurm");
    node->set_slots(64);
    request_.job_id = "job-12";
    request_.attempt = 2;
    request_.threads_per_worker = 3;
    request_.slots.emplace_back().set_node("slurm");
    request_.slots.back().set_slots(4);
    request_.coordinator = "tcp://head:7070";
    request_.directory = slurm_.path() / "attempt-2";
  }

  std::unique_ptr<Launcher> Make() { return MakeSlurmLauncher(spec_, "/opt/fr/fr-worker"); }

  // A line of squeue about this attempt, or another directory's.
  std::string Job(const std::string& state, const std::string& reason = "None",
                  const std::string& exit_code = "0", std::string directory = "",
                  int number = 17) const {
    if (directory.empty()) directory = request_.directory.string();
    return fmt::format("{}|{}|{}|n[1-2]|{}|{}\n", number, state, exit_code, reason, directory);
  }

  // The job's script, as Slurm would run it. Returns its exit status.
  int RunScript(const std::string& number = "17") const {
    return RunProgram({"env", "SLURM_JOB_ID=" + number, "sh",
                       (request_.directory / "job.sbatch").string()})
        .exit_status;
  }

  std::string Claim() const { return ReadFile(request_.directory / kClaimFile); }

  static ErrorCode CodeOf(const std::function<void()>& call, std::string* words = nullptr) {
    try {
      call();
    } catch (const Error& error) {
      if (words != nullptr) *words = error.what();
      return error.code();
    }
    return ErrorCode::kInternal;
  }

  FakeSlurm slurm_;
  CoordinatorSpec spec_;
  LaunchRequest request_;
};

// What is wrong with the configuration is said at the start of the coordinator.
TEST_F(SlurmLauncher, NeedsSlurmsCommandsAndOneNode) {
  std::string words;
  std::filesystem::remove(slurm_.bin_dir() / "squeue");
  EXPECT_EQ(CodeOf([&] { Make(); }, &words), ErrorCode::kNotFound);
  EXPECT_THAT(words, HasSubstr("squeue"));
  spec_.add_nodes()->set_name("other");
  EXPECT_EQ(CodeOf([&] { Make(); }, &words), ErrorCode::kInvalidArgument);
}

TEST_F(SlurmLauncher, SubmitsTheAttempt) {
  const LaunchRecord record = Make()->Start(request_);
  EXPECT_EQ(record.handle(), "17");
  EXPECT_EQ(record.directory(), request_.directory);
  ASSERT_EQ(record.slots_size(), 1);
  EXPECT_EQ(record.slots(0).slots(), 4);
  const std::string script = (request_.directory / "job.sbatch").string();
  EXPECT_THAT(slurm_.Calls("sbatch"), ElementsAre("--parsable " + script));
  EXPECT_THAT(ReadFile(script),
              testing::AllOf(HasSubstr("--job-name=fr-job-12-2\n"), HasSubstr("--ntasks=4\n"),
                             HasSubstr("--cpus-per-task=3\n"),
                             HasSubstr("/srun --mpi=pmix --ntasks=4 --cpus-per-task=3 "),
                             HasSubstr("/opt/fr/fr-worker --coordinator tcp://head:7070 "
                                       "--job-id job-12 --attempt 2 &\n")));
}

// A job has no use for the rest, which may be wrong on its node, or secret.
TEST_F(SlurmLauncher, PassesOnWhatTheWorkersNeed) {
  setenv("FR_LOG", "debug", 1);
  setenv("NCCL_DEBUG", "INFO", 1);
  setenv("DISPLAY", ":0", 1);
  setenv("SLURM_JOB_ID", "5", 1);  // the coordinator itself may run in a job
  slurm_.Runs("sbatch", "env >$here/environment");
  Make()->Start(request_);
  for (const char* name : {"FR_LOG", "NCCL_DEBUG", "DISPLAY", "SLURM_JOB_ID"}) unsetenv(name);
  const std::string environment = ReadFile(slurm_.path() / "environment");
  EXPECT_THAT(environment, testing::AllOf(HasSubstr("FR_LOG=debug\n"), HasSubstr("PATH="),
                                          HasSubstr("NCCL_DEBUG=INFO\n")));
  EXPECT_THAT(environment,
              testing::AllOf(Not(HasSubstr("DISPLAY=")), Not(HasSubstr("SLURM_JOB_ID="))));
}

// srun's exit status is the attempt's, and Slurm's.
TEST_F(SlurmLauncher, LeavesTheExitStatusBehind) {
  Make()->Start(request_);
  slurm_.Fails("srun", "a worker died");
  EXPECT_EQ(RunScript(), 1);
  EXPECT_EQ(ExitStatus(request_.directory), 1);
  EXPECT_EQ(Claim(), "17\n");
  EXPECT_EQ(slurm_.Calls("srun").size(), 1U);
}

// Requeued, or submitted twice: the workers have run, and do not run again.
TEST_F(SlurmLauncher, RunsAScriptOnce) {
  Make()->Start(request_);
  EXPECT_EQ(RunScript(), 0);
  EXPECT_EQ(RunScript(), 1);
  EXPECT_EQ(RunScript("18"), 1);
  EXPECT_EQ(ExitStatus(request_.directory), 0);
  EXPECT_EQ(slurm_.Calls("srun").size(), 1U);
}

// SIGTERM goes to the whole job: the script outlives it, to say how the workers ended. mpirun,
// which Slurm does not know, gets it from the script.
TEST_F(SlurmLauncher, SurvivesTheSignalThatEndsTheWorkers) {
  for (const bool with_mpirun : {false, true}) {
    const FakeSlurm slurm;
    slurm.Prints("sbatch", "17\n");
    slurm.Prints("sinfo", kIdleNode);
    spec_.mutable_slurm()->set_bin_dir(slurm.bin_dir().string());
    if (with_mpirun) spec_.mutable_slurm()->set_mpi("mpirun");
    spec_.set_mpirun((slurm.bin_dir() / "srun").string());
    request_.directory = slurm.path() / "attempt-2";
    Make()->Start(request_);
    slurm.Runs("srun",
               "trap 'exit 9' TERM; echo $$ $PPID >$here/pids; "
               "while :; do sleep 0.01; done");
    std::thread script([this] { RunScript(); });
    long worker = 0;
    long shell = 0;
    EXPECT_TRUE(WaitFor([&] {
      return static_cast<bool>(std::ifstream(slurm.path() / "pids") >> worker >> shell);
    }));
    kill(static_cast<pid_t>(shell), SIGTERM);
    if (!with_mpirun) kill(static_cast<pid_t>(worker), SIGTERM);
    script.join();
    EXPECT_EQ(ExitStatus(request_.directory), 9);
  }
}

// What Slurm will never take is told from what it does not take now. Neither runs later.
TEST_F(SlurmLauncher, SaysWhyNothingWasStarted) {
  std::string words;
  slurm_.Fails("sbatch", "sbatch: error: Batch job submission failed: Invalid account");
  EXPECT_EQ(CodeOf([&] { Make()->Start(request_); }, &words), ErrorCode::kFailedPrecondition);
  EXPECT_THAT(words, HasSubstr("Invalid account"));
  EXPECT_EQ(Claim(), "void\n");
  EXPECT_EQ(RunScript(), 1);
  EXPECT_THAT(slurm_.Calls("srun"), IsEmpty());

  request_.directory = slurm_.path() / "attempt-3";
  slurm_.Fails("sbatch", "Unable to contact slurm controller (connect failure)");
  EXPECT_EQ(CodeOf([&] { Make()->Start(request_); }), ErrorCode::kUnavailable);
  request_.directory = slurm_.path() / "attempt-4";
  slurm_.Prints("sbatch", "Welcome to the cluster!\n");
  EXPECT_EQ(CodeOf([&] { Make()->Start(request_); }), ErrorCode::kUnavailable);
  request_.directory = "/proc/none/attempt-5";
  EXPECT_EQ(CodeOf([&] { Make()->Start(request_); }), ErrorCode::kIo);
}

// The answer is lost, the job is not: it runs already.
TEST_F(SlurmLauncher, FindsAJobWhoseAnswerWasLost) {
  slurm_.Runs("sbatch", "SLURM_JOB_ID=21 sh $2");
  slurm_.Fails("sbatch", "Batch job submission failed: Socket timed out on send/recv operation");
  EXPECT_EQ(Make()->Start(request_).handle(), "21");
}

TEST_F(SlurmLauncher, RecoversAnAttemptThatRuns) {
  Make()->Start(request_);
  RunScript("19");
  slurm_.Fails("squeue", "not needed");
  const std::optional<LaunchRecord> record = Make()->Recover(request_);
  ASSERT_TRUE(record);
  EXPECT_EQ(record->handle(), "19");
  EXPECT_EQ(record->directory(), request_.directory);
}

// Another coordinator's job of the same name is another's.
TEST_F(SlurmLauncher, RecoversAnAttemptThatWaits) {
  slurm_.Prints("squeue", Job("PENDING", "Resources", "0", "/other/attempt-2", 16) +
                              Job("PENDING", "Resources"));
  const std::optional<LaunchRecord> record = Make()->Recover(request_);
  ASSERT_TRUE(record);
  EXPECT_EQ(record->handle(), "17");
  EXPECT_THAT(slurm_.Calls("squeue").at(0), HasSubstr("--name=fr-job-12-2"));
}

// Nothing has been started, and nothing can be: a submission that is still under way is cancelled,
// and its script would do nothing.
TEST_F(SlurmLauncher, MakesVoidWhatWasNotStarted) {
  slurm_.Prints("squeue", Job("PENDING", "Resources", "0", "/other/attempt-2", 16));
  const std::unique_ptr<Launcher> launcher = Make();
  EXPECT_EQ(launcher->Recover(request_), std::nullopt);
  EXPECT_EQ(Claim(), "void\n");
  EXPECT_EQ(launcher->Recover(request_), std::nullopt);

  slurm_.Prints("squeue", Job("PENDING", "Resources", "0", "/other/attempt-2", 16) +
                              Job("PENDING", "Resources"));
  launcher->Look({});
  EXPECT_THAT(slurm_.Calls("scancel"), testing::Contains("17"));
  EXPECT_THAT(slurm_.Calls("scancel"), Not(testing::Contains("16")));
}

// Slurm does not answer: the job may wait there.
TEST_F(SlurmLauncher, RecoversNothingWhileSlurmIsAway) {
  slurm_.Fails("squeue", "slurm_load_jobs error: Unable to contact slurm controller");
  std::string words;
  EXPECT_EQ(CodeOf([&] { Make()->Recover(request_); }, &words), ErrorCode::kUnavailable);
  EXPECT_THAT(words, HasSubstr("Unable to contact"));
  EXPECT_FALSE(std::filesystem::exists(request_.directory / kClaimFile));
  slurm_.Prints("squeue", "17|PEND");
  EXPECT_EQ(CodeOf([&] { Make()->Recover(request_); }), ErrorCode::kUnavailable);
}

// The controller is asked once for all, and not more often than the configuration says.
TEST_F(SlurmLauncher, LooksAtAllAttemptsAtOnce) {
  spec_.mutable_slurm()->set_poll_every_ms(3'600'000);
  const std::unique_ptr<Launcher> launcher = Make();
  std::vector<LaunchRecord> records = {launcher->Start(request_)};
  request_.directory = slurm_.path() / "attempt-3";
  slurm_.Prints("sbatch", "18\n");
  records.push_back(launcher->Start(request_));
  slurm_.Prints("squeue",
                Job("RUNNING", "None", "0", "", 18) +
                    Job("PENDING", "Priority", "0", (slurm_.path() / "attempt-2").string()));
  for (int round = 0; round < 3; ++round) {
    const std::vector<AttemptStatus> statuses = launcher->Look(records);
    ASSERT_EQ(statuses.size(), 2U);
    EXPECT_EQ(statuses[0].phase, AttemptPhase::kQueued);
    EXPECT_EQ(statuses[0].reason, "in Slurm's queue: Priority");
    EXPECT_EQ(statuses[1].phase, AttemptPhase::kRunning);
  }
  ASSERT_EQ(slurm_.Calls("squeue").size(), 1U);
  EXPECT_THAT(slurm_.Calls("squeue")[0],
              testing::AllOf(HasSubstr("--states=all"), HasSubstr("--jobs=17,18")));
  // What was stopped is looked at anew.
  launcher->Stop(records[0], StopMode::kAsk);
  const std::size_t calls = slurm_.Calls("squeue").size();
  launcher->Look(records);
  EXPECT_EQ(slurm_.Calls("squeue").size(), calls + 1);
}

// Silence and nonsense are no end.
TEST_F(SlurmLauncher, CannotTellWhileSlurmIsAway) {
  const std::unique_ptr<Launcher> launcher = Make();
  const LaunchRecord record = launcher->Start(request_);
  for (const char* output : {"17|RUNN", "slurm is being upgraded", "17|DREAMING|0|n1|None|"}) {
    slurm_.Prints("squeue",
                  output + (std::string(output).ends_with('|') ? request_.directory.string()
                                                               : std::string()));
    const AttemptStatus status = launcher->Look({record}).at(0);
    EXPECT_EQ(status.phase, AttemptPhase::kUnknown) << output;
    EXPECT_NE(status.reason, "") << output;
  }
  slurm_.Fails("squeue", "slurm_load_jobs error: Unable to contact slurm controller");
  const AttemptStatus status = launcher->Look({record}).at(0);
  EXPECT_EQ(status.phase, AttemptPhase::kUnknown);
  EXPECT_THAT(status.reason, HasSubstr("Unable to contact slurm controller"));
}

TEST_F(SlurmLauncher, TellsHowAnAttemptEnded) {
  const std::unique_ptr<Launcher> launcher = Make();
  const LaunchRecord record = launcher->Start(request_);
  slurm_.Fails("srun", "");
  RunScript();
  slurm_.Prints("squeue", Job("FAILED", "NonZeroExitCode", "256"));
  AttemptStatus status = launcher->Look({record}).at(0);
  EXPECT_EQ(status.phase, AttemptPhase::kEnded);
  EXPECT_EQ(status.exit_status, 1);
  EXPECT_EQ(status.reason, "");
  // Slurm knows it too, should the file system be slow to show the file.
  std::filesystem::remove(request_.directory / kExitStatusFile);
  EXPECT_EQ(launcher->Look({record}).at(0).exit_status, 1);
}

// Slurm forgets jobs that ended some minutes ago; squeue has two ways to say so.
TEST_F(SlurmLauncher, KnowsAnEndThatSlurmHasForgotten) {
  const std::unique_ptr<Launcher> launcher = Make();
  const LaunchRecord record = launcher->Start(request_);
  RunScript();
  slurm_.Prints("squeue", "");
  EXPECT_EQ(launcher->Look({record}).at(0).phase, AttemptPhase::kEnded);
  EXPECT_EQ(launcher->Look({record}).at(0).exit_status, 0);
  slurm_.Fails("squeue", "slurm_load_jobs error: Invalid job id specified");
  EXPECT_EQ(launcher->Look({record}).at(0).exit_status, 0);
  EXPECT_FALSE(launcher->Look({record}).at(0).nodes_lost);
}

// Slurm's controller died with what it knew. The workers may run until their nodes have reported to
// the new one, so their end is not believed at once, and the job is not to blame.
TEST_F(SlurmLauncher, WaitsForTheEndOfWhatSlurmHasForgotten) {
  const std::string is_forgotten;
  const std::string was_to_run_again =
      fmt::format("17|CANCELLED|0||None|{}\n", request_.directory.string());
  for (const std::string& answer : {is_forgotten, was_to_run_again}) {
    const std::unique_ptr<Launcher> launcher = Make();
    const LaunchRecord record = launcher->Start(request_);
    slurm_.Runs("srun", "kill -9 $PPID");
    RunScript();
    slurm_.Prints("squeue", answer);
    AttemptStatus status = launcher->Look({record}).at(0);
    EXPECT_EQ(status.phase, AttemptPhase::kUnknown);
    EXPECT_THAT(status.reason, testing::AllOf(HasSubstr("17"), HasSubstr("given the time")));
    for (int looks = 1; looks < 5; ++looks) launcher->Look({record});
    status = launcher->Look({record}).at(0);
    EXPECT_EQ(status.phase, AttemptPhase::kEnded);
    EXPECT_EQ(status.exit_status, std::nullopt);
    EXPECT_TRUE(status.nodes_lost);
    EXPECT_THAT(status.reason, HasSubstr("17"));
    // It stays so.
    EXPECT_EQ(launcher->Look({record}).at(0).phase, AttemptPhase::kEnded);
  }
}

// What has not begun has nothing to end.
TEST_F(SlurmLauncher, StartsAnewAtOnceWhatSlurmHasForgottenInItsQueue) {
  const std::unique_ptr<Launcher> launcher = Make();
  const LaunchRecord record = launcher->Start(request_);
  slurm_.Prints("squeue", "");
  const AttemptStatus status = launcher->Look({record}).at(0);
  EXPECT_EQ(status.phase, AttemptPhase::kEnded);
  EXPECT_TRUE(status.nodes_lost);
  EXPECT_EQ(Claim(), "void\n");
}

// A number that Slurm gave twice, after its state was lost: the other job is not ours.
TEST_F(SlurmLauncher, LeavesAnothersJobAlone) {
  const std::unique_ptr<Launcher> launcher = Make();
  const LaunchRecord record = launcher->Start(request_);
  slurm_.Prints("squeue", Job("RUNNING", "None", "0", "/home/somebody"));
  launcher->Stop(record, StopMode::kKill);
  EXPECT_THAT(slurm_.Calls("scancel"), IsEmpty());
  EXPECT_EQ(launcher->Look({record}).at(0).phase, AttemptPhase::kEnded);
}

// It has ended without having begun. Should Slurm bring it back all the same, it runs nothing.
TEST_F(SlurmLauncher, MakesAnEndFinal) {
  const std::unique_ptr<Launcher> launcher = Make();
  const LaunchRecord record = launcher->Start(request_);
  slurm_.Prints("squeue", Job("FAILED", "BadConstraints"));
  const AttemptStatus status = launcher->Look({record}).at(0);
  EXPECT_EQ(status.phase, AttemptPhase::kEnded);
  EXPECT_EQ(status.exit_status, std::nullopt);
  EXPECT_THAT(status.reason, HasSubstr("BadConstraints"));
  EXPECT_EQ(RunScript(), 1);
  EXPECT_THAT(slurm_.Calls("srun"), IsEmpty());
}

// sbatch may submit twice, when its first answer is lost: what counts is the job that came first.
TEST_F(SlurmLauncher, FollowsTheJobThatHasTheClaim) {
  const std::unique_ptr<Launcher> launcher = Make();
  const LaunchRecord record = launcher->Start(request_);
  RunScript("16");
  EXPECT_EQ(RunScript("17"), 1);
  slurm_.Prints("squeue",
                Job("FAILED", "NonZeroExitCode", "256") + Job("RUNNING", "None", "0", "", 16));
  EXPECT_EQ(launcher->Look({record}).at(0).phase, AttemptPhase::kRunning);
  EXPECT_THAT(slurm_.Calls("squeue").back(), HasSubstr("--jobs=16 "));
  launcher->Stop(record, StopMode::kKill);
  EXPECT_THAT(slurm_.Calls("scancel"), ElementsAre("16"));
}

// The node that failed is named, not the job's others.
TEST_F(SlurmLauncher, NamesTheNodeThatFailed) {
  const std::unique_ptr<Launcher> launcher = Make();
  const LaunchRecord record = launcher->Start(request_);
  slurm_.Runs("srun", "kill -9 $PPID");
  RunScript();
  slurm_.Prints("squeue", Job("NODE_FAIL", "NodeDown", "15"));
  slurm_.Prints("sinfo",
                "n1|idle|up|main*|8|4000|(null)|none\n"
                "n2|down*|up|main*|8|4000|(null)|Not responding\n"
                "n2|down*|up|all|8|4000|(null)|Not responding\n");
  AttemptStatus status = launcher->Look({record}).at(0);
  EXPECT_EQ(status.phase, AttemptPhase::kEnded);
  EXPECT_EQ(status.exit_status, std::nullopt);
  EXPECT_TRUE(status.nodes_lost);
  EXPECT_THAT(status.failed_nodes, ElementsAre("n2"));
  EXPECT_EQ(status.reason, "a node of Slurm's job 17 failed: n2 (Not responding)");
  slurm_.Fails("sinfo", "no answer");
  status = launcher->Look({record}).at(0);
  EXPECT_EQ(status.phase, AttemptPhase::kEnded);
  EXPECT_THAT(status.failed_nodes, IsEmpty());
}

// By an administrator, though the job says --no-requeue. It does not run again: no use in waiting.
TEST_F(SlurmLauncher, CancelsAJobThatWasRequeued) {
  const std::unique_ptr<Launcher> launcher = Make();
  const LaunchRecord record = launcher->Start(request_);
  RunScript();
  slurm_.Prints("squeue", Job("PENDING", "BeginTime"));
  const AttemptStatus status = launcher->Look({record}).at(0);
  EXPECT_EQ(status.phase, AttemptPhase::kRunning);
  EXPECT_THAT(status.reason, HasSubstr("requeued"));
  EXPECT_THAT(slurm_.Calls("scancel"), ElementsAre("17"));
  slurm_.Prints("squeue", Job("CANCELLED", "BeginTime"));
  EXPECT_EQ(launcher->Look({record}).at(0).phase, AttemptPhase::kEnded);
}

TEST_F(SlurmLauncher, StopsAnAttemptWhateverItsState) {
  const std::unique_ptr<Launcher> launcher = Make();
  const LaunchRecord record = launcher->Start(request_);
  std::size_t seen = 0;
  const auto cancels = [&](const std::string& state, StopMode mode) {
    slurm_.Prints("squeue", Job(state));
    launcher->Stop(record, mode);
    std::vector<std::string> calls = slurm_.Calls("scancel");
    calls.erase(calls.begin(), calls.begin() + static_cast<std::ptrdiff_t>(seen));
    seen += calls.size();
    return calls;
  };
  EXPECT_THAT(cancels("PENDING", StopMode::kAsk), ElementsAre("17"));
  EXPECT_THAT(cancels("RUNNING", StopMode::kAsk), ElementsAre("--signal=TERM 17"));
  EXPECT_THAT(cancels("RUNNING", StopMode::kKill), ElementsAre("17"));
  EXPECT_THAT(cancels("SUSPENDED", StopMode::kKill), ElementsAre("17"));
  EXPECT_THAT(cancels("COMPLETED", StopMode::kKill), IsEmpty());
  // Neither is an error: whoever stops it looks again.
  slurm_.Fails("scancel", "scancel: error: Kill job error on job id 17: Invalid job id specified");
  EXPECT_THAT(cancels("RUNNING", StopMode::kKill), ElementsAre("17"));
  slurm_.Fails("squeue", "Unable to contact slurm controller");
  EXPECT_NO_THROW(launcher->Stop(record, StopMode::kKill));
}

// mpirun ends its workers; the script hands the signal on to it.
TEST_F(SlurmLauncher, AsksMpirunByWayOfTheScript) {
  spec_.mutable_slurm()->set_mpi("mpirun");
  spec_.add_mpirun_args("--tag-output");
  const std::unique_ptr<Launcher> launcher = Make();
  const LaunchRecord record = launcher->Start(request_);
  EXPECT_THAT(ReadFile(request_.directory / "job.sbatch"),
              testing::AllOf(HasSubstr("\nmpirun -np 4 --bind-to none "),
                             HasSubstr(" --tag-output /opt/fr/fr-worker --coordinator "),
                             Not(HasSubstr("srun"))));
  slurm_.Prints("squeue", Job("RUNNING"));
  launcher->Stop(record, StopMode::kAsk);
  EXPECT_THAT(slurm_.Calls("scancel"), ElementsAre("--signal=TERM 17 --batch"));
}

// The cluster is one node; when Slurm does not answer it is down, with Slurm's words, until it
// does.
TEST_F(SlurmLauncher, ReportsTheCluster) {
  spec_.mutable_slurm()->set_poll_every_ms(5);
  const std::unique_ptr<Launcher> launcher = Make();
  EXPECT_FALSE(launcher->DealsOutMachines());
  const auto is = [&](NodeStatus::Liveness liveness) {
    return [&launcher, liveness] { return launcher->Nodes().at(0).liveness == liveness; };
  };
  ASSERT_TRUE(WaitFor(is(NodeStatus::UP)));
  NodeReport report = launcher->Nodes().at(0);
  EXPECT_EQ(report.name, "slurm");
  EXPECT_EQ(report.cpus, 8);
  EXPECT_EQ(report.usable_slots, 8);
  EXPECT_GT(report.seen_ms, 0);
  slurm_.Fails("sinfo", "slurm_load_partitions: Unable to contact slurm controller");
  ASSERT_TRUE(WaitFor(is(NodeStatus::DOWN)));
  EXPECT_THAT(launcher->Nodes().at(0).reason, HasSubstr("Unable to contact slurm controller"));
  slurm_.Prints("sinfo", kIdleNode);
  EXPECT_TRUE(WaitFor(is(NodeStatus::UP)));
}

// squeue's answer shows that Slurm is there, before sinfo is asked again: what runs is not lost.
TEST_F(SlurmLauncher, IsUpOnceSlurmAnswersAnything) {
  slurm_.Fails("sinfo", "slurm_load_partitions: Unable to contact slurm controller");
  spec_.mutable_slurm()->set_poll_every_ms(3'600'000);
  const std::unique_ptr<Launcher> launcher = Make();
  ASSERT_TRUE(WaitFor([&] { return launcher->Nodes().at(0).liveness == NodeStatus::DOWN; }));
  const LaunchRecord record = launcher->Start(request_);
  slurm_.Prints("squeue", Job("RUNNING"));
  EXPECT_EQ(launcher->Look({record}).at(0).phase, AttemptPhase::kRunning);
  EXPECT_EQ(launcher->Nodes().at(0).liveness, NodeStatus::UP);
}

}  // namespace
}  // namespace fr
