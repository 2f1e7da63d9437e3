#include "coordinator/launch/mpirun_launcher.h"

#include <csignal>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "coordinator/launch/attempt_files.h"
#include "coordinator/launch/session.h"
#include "tests/coordinator/fake_mpirun.h"
#include "tests/coordinator/fake_ssh.h"
#include "tests/coordinator/wait_for.h"

namespace fr {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class MpirunLauncherTest : public testing::Test {
 protected:
  // A launcher whose mpirun is `body`.
  std::unique_ptr<Launcher> Make(const std::string& body) {
    spec_.set_mpirun(WriteFakeMpirun(directory_.path(), body));
    if (spec_.nodes_size() == 0) AddNode("localhost");
    return MakeLauncher(spec_, "/bin/fr-worker");
  }

  void AddNode(const std::string& name) {
    NodeSpec* node = spec_.add_nodes();
    node->set_name(name);
    node->set_slots(4);
  }

  // Hosts a and b, over a fake ssh.
  void UseHosts() {
    spec_.set_launcher(LauncherKind::hosts);
    spec_.set_rpc("tcp://*:7070");
    spec_.mutable_ssh()->set_command(WriteFakeSsh(directory_.path()));
    spec_.mutable_ssh()->set_probe_every_ms(100);
    spec_.mutable_ssh()->set_probe_timeout_ms(20'000);
    AddNode("a");
    AddNode("b");
  }

  LaunchRequest Request(const std::vector<std::string>& nodes = {"localhost"}) {
    LaunchRequest request;
    request.job_id = "job-7";
    request.attempt = 3;
    request.coordinator = "tcp://127.0.0.1:7070";
    request.directory = directory_.path() / "attempt";
    for (const std::string& node : nodes) {
      request.slots.emplace_back();
      request.slots.back().set_node(node);
      request.slots.back().set_slots(2);
    }
    return request;
  }

  static AttemptStatus Look(Launcher& launcher, const LaunchRecord& record) {
    return launcher.Look({record}).at(0);
  }
  static bool Runs(Launcher& launcher, const LaunchRecord& record) {
    return Look(launcher, record).phase == AttemptPhase::kRunning;
  }
  static bool WaitForEnd(Launcher& launcher, const LaunchRecord& record) {
    return WaitFor([&] { return Look(launcher, record).phase == AttemptPhase::kEnded; });
  }
  bool WaitForLog(const std::string& last_line) {
    return WaitFor([&] { return LogTail(directory_.path() / "attempt", 1) == last_line; });
  }

  TemporaryDirectory directory_;
  CoordinatorSpec spec_;
};

TEST_F(MpirunLauncherTest, OutputAndExitStatusOutliveTheProcess) {
  const auto launcher = Make("echo out; echo ------; echo err >&2; exit 7");
  const LaunchRecord record = launcher->Start(Request());
  EXPECT_EQ(record.directory(), directory_.path() / "attempt");
  EXPECT_EQ(record.slots_size(), 1);
  ASSERT_TRUE(WaitForEnd(*launcher, record));
  const AttemptStatus status = Look(*launcher, record);
  EXPECT_EQ(status.exit_status, 7);
  EXPECT_THAT(status.failed_nodes, IsEmpty());
  EXPECT_EQ(ReadFile(directory_.path() / "attempt" / kLogFile), "out\n------\nerr\n");
}

// mpirun's words are the reason, but a machine without others to choose from is not to blame. What
// was run is there for people to repeat.
TEST_F(MpirunLauncherTest, SaysWhatEndedItHere) {
  const auto launcher = Make(
      "echo 'mpirun noticed that process rank 1 with PID 0 on node vm exited on signal 9 "
      "(Killed).'; exit 137");
  const LaunchRecord record = launcher->Start(Request());
  ASSERT_TRUE(WaitForEnd(*launcher, record));
  const AttemptStatus status = Look(*launcher, record);
  EXPECT_EQ(status.reason, "rank 1 on localhost ended by signal 9: Killed; out of memory?");
  EXPECT_THAT(status.failed_nodes, IsEmpty());
  EXPECT_THAT(ReadFile(directory_.path() / "attempt" / kCommandFile),
              testing::AllOf(testing::StartsWith("'" + spec_.mpirun() + "' "),
                             testing::EndsWith(" '--job-id' 'job-7' '--attempt' '3'\n")));
}

// Another coordinator, that never saw the process start, sees the same.
TEST_F(MpirunLauncherTest, ARecordIsAllThatIsNeeded) {
  const LaunchRecord record = Make("echo ready; exec sleep 600")->Start(Request());
  ASSERT_TRUE(WaitForLog("ready"));
  const auto other = Make("exit 1");
  EXPECT_TRUE(Runs(*other, record));
  other->Stop(record, StopMode::kAsk);
  ASSERT_TRUE(WaitForEnd(*other, record));
  EXPECT_EQ(Look(*other, record).exit_status, 128 + SIGTERM);
  other->Stop(record, StopMode::kKill);  // no error
}

// What mpirun started goes with it, even when it will not listen.
TEST_F(MpirunLauncherTest, AStubbornTreeIsKilledAsAWhole) {
  const auto launcher =
      Make("trap '' TERM; sh -c 'trap \"\" TERM; echo ready; while :; do sleep 0.05; done' & wait");
  const LaunchRecord record = launcher->Start(Request());
  ASSERT_TRUE(WaitForLog("ready"));
  launcher->Stop(record, StopMode::kAsk);
  EXPECT_TRUE(Runs(*launcher, record));
  launcher->Stop(record, StopMode::kKill);
  ASSERT_TRUE(WaitForEnd(*launcher, record));
  EXPECT_EQ(Look(*launcher, record).exit_status, std::nullopt);
}

// The supervisor killed alone: its attempt still has processes, known by their mark.
TEST_F(MpirunLauncherTest, WorkersOutliveTheirSupervisor) {
  const auto launcher = Make("echo ready; exec sleep 600");
  const LaunchRecord record = launcher->Start(Request());
  ASSERT_TRUE(WaitForLog("ready"));
  kill(static_cast<pid_t>(record.pid()), SIGKILL);
  ASSERT_TRUE(WaitFor([&] {
    waitpid(static_cast<pid_t>(record.pid()), nullptr, WNOHANG);
    return StartTicks(record.pid()) == 0;
  }));
  EXPECT_TRUE(Runs(*launcher, record));
  LaunchRecord of_another = record;
  of_another.set_directory("/somewhere/else");
  EXPECT_FALSE(Runs(*launcher, of_another));
  launcher->Stop(of_another, StopMode::kKill);
  EXPECT_TRUE(Runs(*launcher, record));
  launcher->Stop(record, StopMode::kKill);
  EXPECT_TRUE(WaitForEnd(*launcher, record));
}

// A process that happens to have the number of one that has gone is left alone.
TEST_F(MpirunLauncherTest, ANumberThatWasGivenAgainIsNotOurs) {
  const auto launcher = Make("exec sleep 600");
  const LaunchRecord record = launcher->Start(Request());
  LaunchRecord earlier = record;
  earlier.set_start_ticks(record.start_ticks() - 1);
  EXPECT_FALSE(Runs(*launcher, earlier));
  launcher->Stop(earlier, StopMode::kKill);
  EXPECT_TRUE(Runs(*launcher, record));
  launcher->Stop(record, StopMode::kKill);
}

// Many attempts at one look, in their order.
TEST_F(MpirunLauncherTest, StatusesComeInTheOrderOfTheRecords) {
  const auto launcher = Make("exec sleep 600");
  const LaunchRecord running = launcher->Start(Request());
  LaunchRecord gone = running;
  gone.set_start_ticks(1);
  const auto statuses = launcher->Look({gone, running, gone});
  ASSERT_EQ(statuses.size(), 3U);
  EXPECT_EQ(statuses[0].phase, AttemptPhase::kEnded);
  EXPECT_EQ(statuses[1].phase, AttemptPhase::kRunning);
  EXPECT_EQ(statuses[2].phase, AttemptPhase::kEnded);
  launcher->Stop(running, StopMode::kKill);
}

// The coordinator died before Start: nothing was started, and nothing is.
TEST_F(MpirunLauncherTest, RecoveryFindsNothingWhereNothingWasStarted) {
  const auto launcher = Make("exec sleep 600");
  EXPECT_EQ(launcher->Recover(Request()), std::nullopt);
  EXPECT_EQ(launcher->Recover(Request()), std::nullopt);
}

// The coordinator died after Start: the same process is found.
TEST_F(MpirunLauncherTest, RecoveryFindsWhatWasStarted) {
  const auto launcher = Make("echo ready; exec sleep 600");
  const LaunchRecord started = launcher->Start(Request());
  ASSERT_TRUE(WaitForLog("ready"));
  const std::optional<LaunchRecord> found = launcher->Recover(Request());
  ASSERT_TRUE(found);
  EXPECT_EQ(found->pid(), started.pid());
  EXPECT_EQ(found->start_ticks(), started.start_ticks());
  EXPECT_EQ(found->directory(), started.directory());
  EXPECT_EQ(found->slots_size(), 1);
  EXPECT_LE(std::abs(found->started_ms() - started.started_ms()), 60'000);
  EXPECT_TRUE(Runs(*launcher, *found));
  launcher->Stop(*found, StopMode::kKill);
}

// A process that comes after the decision starts no workers.
TEST_F(MpirunLauncherTest, ASupervisorThatComesLateStartsNothing) {
  const auto launcher = Make("echo workers");
  EXPECT_EQ(launcher->Recover(Request()), std::nullopt);
  const LaunchRecord late = launcher->Start(Request());
  ASSERT_TRUE(WaitForEnd(*launcher, late));
  EXPECT_EQ(ReadFile(directory_.path() / "attempt" / kLogFile), "");
  EXPECT_EQ(Look(*launcher, late).exit_status, std::nullopt);
}

// Start and recovery at the same time: either it runs and is found, or it is neither.
TEST_F(MpirunLauncherTest, ARaceHasOneWinner) {
  int found = 0;
  for (int round = 0; round < 40; ++round) {
    const auto launcher = Make("echo workers; exec sleep 600");
    LaunchRequest request = Request();
    request.directory = directory_.path() / ("attempt-" + std::to_string(round));
    const LaunchRecord started = launcher->Start(request);
    // Rounds differ in who is first: some work goes before, more each time.
    for (int i = 0; i < round * 4; ++i) StartTicks(started.pid());
    const std::optional<LaunchRecord> recovered = launcher->Recover(request);
    if (recovered) {
      ++found;
      EXPECT_EQ(recovered->pid(), started.pid());
      EXPECT_TRUE(WaitFor([&] { return LogTail(request.directory, 1) == "workers"; }));
      launcher->Stop(*recovered, StopMode::kKill);
    }
    EXPECT_TRUE(WaitForEnd(*launcher, started));
    if (!recovered) {
      EXPECT_EQ(ReadFile(request.directory / kLogFile), "");
    }
  }
  RecordProperty("found", found);
}

// A claim of somebody else is no reason to start a second time.
TEST_F(MpirunLauncherTest, AForeignClaimIsForAPerson) {
  MakeDirectories(directory_.path() / "attempt");
  std::ofstream(directory_.path() / "attempt" / kClaimFile) << "slurm-1234\n";
  try {
    Make("")->Recover(Request());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnavailable);
    EXPECT_THAT(error.what(), testing::HasSubstr("slurm-1234"));
  }
}

TEST_F(MpirunLauncherTest, ADirectoryThatCannotBeMadeIsAnError) {
  LaunchRequest request = Request();
  request.directory = "/proc/none/attempt";
  EXPECT_THROW(Make("")->Start(request), Error);
}

// This machine is up, and known at once.
TEST_F(MpirunLauncherTest, ThisMachineIsANode) {
  const auto reports = Make("")->Nodes();
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_EQ(reports[0].name, "localhost");
  EXPECT_EQ(reports[0].liveness, NodeStatus::UP);
  EXPECT_GT(reports[0].cpus, 0);
  EXPECT_GT(reports[0].memory_bytes, 0);
  EXPECT_GT(reports[0].seen_ms, 0);
}

TEST_F(MpirunLauncherTest, HostsAreNodesInTheirOrder) {
  AddNode("localhost");
  UseHosts();
  const auto launcher = Make("");
  EXPECT_TRUE(WaitFor([&] {
    const auto reports = launcher->Nodes();
    return reports[1].liveness == NodeStatus::UP && reports[2].liveness == NodeStatus::UP;
  }));
  std::vector<std::string> names;
  for (const NodeReport& report : launcher->Nodes()) names.push_back(report.name);
  EXPECT_THAT(names, ElementsAre("localhost", "a", "b"));
}

// What mpirun's daemon left on a host is ended before the attempt counts as ended.
TEST_F(MpirunLauncherTest, AnAttemptHasEndedOnceItsHostsAreSwept) {
  UseHosts();
  const auto launcher = Make(
      "setsid sleep 600 & echo $! >\"$FR_ATTEMPT/left\"\n"
      "echo '  Remote daemon: [[1,0],2] on node b'; exit 205");
  const LaunchRecord record = launcher->Start(Request({"a", "b"}));
  ASSERT_TRUE(WaitForEnd(*launcher, record));
  const AttemptStatus status = Look(*launcher, record);
  EXPECT_EQ(status.exit_status, 205);
  EXPECT_EQ(status.reason, "the connection to b was lost");
  EXPECT_THAT(status.failed_nodes, ElementsAre("b"));
  EXPECT_TRUE(status.nodes_lost);
  const pid_t left = std::stoi(ReadFile(directory_.path() / "attempt" / "left"));
  EXPECT_TRUE(WaitFor([&] { return kill(left, 0) != 0; }));
}

// mpirun does not say which host did not start; the host itself does, by its silence.
TEST_F(MpirunLauncherTest, AHostThatDoesNotAnswerIsToBlame) {
  UseHosts();
  std::ofstream(directory_.path() / "b.down");
  const auto launcher =
      Make("echo 'ORTE was unable to reliably start one or more daemons.'; exit 1");
  const LaunchRecord record = launcher->Start(Request({"a", "b"}));
  ASSERT_TRUE(WaitForEnd(*launcher, record));
  const AttemptStatus status = Look(*launcher, record);
  EXPECT_THAT(status.failed_nodes, ElementsAre("b"));
  EXPECT_TRUE(status.nodes_lost);
  EXPECT_EQ(status.reason, "mpirun could not start its daemon on every host; no answer from b");
}

// Killed here, killed there.
TEST_F(MpirunLauncherTest, KillingReachesTheHosts) {
  UseHosts();
  const auto launcher = Make("setsid sleep 600 & echo $! >\"$FR_ATTEMPT/left\"; echo ready; wait");
  const LaunchRecord record = launcher->Start(Request({"a", "b"}));
  ASSERT_TRUE(WaitForLog("ready"));
  launcher->Stop(record, StopMode::kKill);
  ASSERT_TRUE(WaitForEnd(*launcher, record));
  const pid_t left = std::stoi(ReadFile(directory_.path() / "attempt" / "left"));
  EXPECT_TRUE(WaitFor([&] { return kill(left, 0) != 0; }));
}

// Mistakes of the configuration are named before any job fails by them.
TEST_F(MpirunLauncherTest, RefusesWhatCannotWork) {
  const auto message = [this] {
    try {
      MakeLauncher(spec_, "/bin/fr-worker");
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return std::string(error.what());
    }
    return std::string();
  };
  AddNode("a");
  EXPECT_THAT(message(), testing::HasSubstr("launcher: hosts"));
  spec_.set_launcher(LauncherKind::hosts);
  EXPECT_THAT(message(), testing::HasSubstr("tcp://127.0.0.1:7070"));
  spec_.set_rpc("tcp://*:7070");
  EXPECT_EQ(message(), "");
  spec_.mutable_ssh()->add_args("-o ProxyJump=x");
  EXPECT_THAT(message(), testing::HasSubstr("ProxyJump"));
}

}  // namespace
}  // namespace fr
