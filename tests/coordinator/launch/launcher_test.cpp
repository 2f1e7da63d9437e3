#include "coordinator/launch/launcher.h"

#include <algorithm>
#include <csignal>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "tests/coordinator/fake_mpirun.h"
#include "tests/coordinator/wait_for.h"

namespace fr {
namespace {

class LauncherTest : public testing::Test {
 protected:
  Launcher Make(const std::string& body) {
    return Launcher({WriteFakeMpirun(directory_.path(), body), {"--extra"}, "/bin/fr-worker"});
  }

  LaunchRequest Request(const std::string& node = "localhost") {
    LaunchRequest request;
    request.job_id = "job-7";
    request.attempt = 3;
    request.threads_per_worker = 4;
    request.slots.emplace_back();
    request.slots.back().set_node(node);
    request.slots.back().set_slots(2);
    request.coordinator = "tcp://127.0.0.1:7070";
    request.directory = directory_.path() / "attempt";
    return request;
  }

  TemporaryDirectory directory_;
};

TEST_F(LauncherTest, WorkersLearnWhoTheyAre) {
  const std::vector<std::string> command = Make("").CommandLine(Request());
  const std::vector<std::string> tail(command.end() - 7, command.end());
  EXPECT_THAT(tail, testing::ElementsAre("/bin/fr-worker", "--coordinator", "tcp://127.0.0.1:7070",
                                         "--job-id", "job-7", "--attempt", "3"));
  EXPECT_THAT(command, testing::IsSupersetOf({"-np", "2", "OMP_NUM_THREADS=4", "--extra"}));
  EXPECT_THAT(command, testing::Not(testing::Contains("--host")));
}

TEST_F(LauncherTest, OtherHostsAreNamedToMpirun) {
  LaunchRequest request = Request("node1");
  request.slots.emplace_back();
  request.slots.back().set_node("node2");
  request.slots.back().set_slots(1);
  EXPECT_THAT(Make("").CommandLine(request),
              testing::IsSupersetOf({"-np", "3", "--host", "node1:2,node2:1"}));
}

TEST_F(LauncherTest, OutputAndExitStatusOutliveTheProcess) {
  const Launcher launcher = Make("echo out; echo ------; echo err >&2; exit 7");
  const LaunchRecord record = launcher.Start(Request());
  ASSERT_TRUE(WaitFor([&] { return !launcher.IsRunning(record); }));
  EXPECT_EQ(launcher.ExitStatus(record), 7);
  EXPECT_EQ(ReadFile(directory_.path() / "attempt" / kLogFile), "out\n------\nerr\n");
  EXPECT_EQ(LogTail(record, 3), "out\nerr");
  EXPECT_EQ(LogTail(record, 1), "err");
}

// Another coordinator, that never saw the process start, sees the same.
TEST_F(LauncherTest, ARecordIsAllThatIsNeeded) {
  const LaunchRecord record = Make("echo ready; exec sleep 60").Start(Request());
  const Launcher other({"/bin/false", {}, "/bin/false"});
  ASSERT_TRUE(WaitFor([&] { return LogTail(record, 1) == "ready"; }));
  EXPECT_TRUE(other.IsRunning(record));
  EXPECT_EQ(other.ExitStatus(record), std::nullopt);
  other.Signal(record, SIGTERM);
  ASSERT_TRUE(WaitFor([&] { return !other.IsRunning(record); }));
  EXPECT_EQ(other.ExitStatus(record), 128 + SIGTERM);
}

// What mpirun started goes with it, even when it will not listen.
TEST_F(LauncherTest, AStubbornTreeIsKilledAsAWhole) {
  const Launcher launcher =
      Make("trap '' TERM; sh -c 'trap \"\" TERM; echo ready; while :; do sleep 0.05; done' & wait");
  const LaunchRecord record = launcher.Start(Request());
  ASSERT_TRUE(WaitFor([&] { return LogTail(record, 1) == "ready"; }));
  launcher.Signal(record, SIGTERM);
  EXPECT_TRUE(launcher.IsRunning(record));
  launcher.Signal(record, SIGKILL);
  EXPECT_TRUE(WaitFor([&] { return !launcher.IsRunning(record); }));
}

// A process that happens to have the number of one that has gone is left alone.
TEST_F(LauncherTest, ANumberThatWasGivenAgainIsNotOurs) {
  const Launcher launcher = Make("sleep 60");
  const LaunchRecord record = launcher.Start(Request());
  LaunchRecord earlier = record;
  earlier.set_start_ticks(record.start_ticks() - 1);
  EXPECT_FALSE(launcher.IsRunning(earlier));
  launcher.Signal(earlier, SIGKILL);
  EXPECT_TRUE(launcher.IsRunning(record));
  launcher.Signal(record, SIGKILL);
}

TEST_F(LauncherTest, ADirectoryThatCannotBeMadeIsAnError) {
  LaunchRequest request = Request();
  request.directory = "/proc/none/attempt";
  EXPECT_THROW(Make("").Start(request), Error);
}

}  // namespace
}  // namespace fr
