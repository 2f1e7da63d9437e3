#include "coordinator/launch/host_watch.h"

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/clock.h"
#include "common/base/temporary_directory.h"
#include "coordinator/launch/program.h"
#include "coordinator/launch/session.h"
#include "tests/common/environment_variable.h"
#include "tests/coordinator/fake_ssh.h"
#include "tests/coordinator/wait_for.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

class HostWatchTest : public testing::Test {
 protected:
  // Asks every 100 ms, so that a test need not wait.
  HostWatchTest() {
    ssh_.set_command(WriteFakeSsh(directory_.path()));
    ssh_.set_probe_every_ms(100);
    ssh_.set_probe_timeout_ms(20'000);
  }

  void SetDown(const std::string& host, bool down) {
    const fs::path mark = directory_.path() / (host + ".down");
    down ? (void)std::ofstream(mark) : (void)fs::remove(mark);
  }

  // A process of the attempt in `directory`; its pid.
  std::int64_t StartMarked(const std::string& directory) {
    return StartSession({"sleep", "600"}, directory, directory_.path() / "log");
  }

  static bool WaitForLiveness(const HostWatch& watch, const std::string& host,
                              NodeStatus::Liveness liveness) {
    return WaitFor([&] { return watch.Report(host).liveness == liveness; });
  }

  static bool WaitForSwept(const HostWatch& watch, const std::string& host,
                           const std::string& directory, HostWatch::Swept state) {
    return WaitFor([&] { return watch.StateOf(host, directory) == state; });
  }

  static bool Lives(std::int64_t pid) {
    LaunchRecord record;
    record.set_pid(pid);
    record.set_start_ticks(StartTicks(pid));
    return !Sessions().Members(record).empty();
  }

  TemporaryDirectory directory_;
  SshSpec ssh_;
};

// Independent of the script: what the C++ library and getconf say.
TEST_F(HostWatchTest, ReportsWhatAHostHas) {
  const std::int64_t began_ms = UnixMillis();
  const HostWatch watch({"a", "b"}, ssh_);
  for (const char* host : {"a", "b"}) {
    ASSERT_TRUE(WaitForLiveness(watch, host, NodeStatus::UP));
    const NodeReport report = watch.Report(host);
    EXPECT_EQ(report.name, host);
    EXPECT_GE(report.seen_ms, began_ms);
    EXPECT_EQ(report.cpus, static_cast<int>(std::thread::hardware_concurrency()));
    const std::int64_t pages = std::stoll(RunProgram({"getconf", "_PHYS_PAGES"}).output);
    const std::int64_t page_bytes = std::stoll(RunProgram({"getconf", "PAGESIZE"}).output);
    EXPECT_EQ(report.memory_bytes, pages * page_bytes);
  }
  EXPECT_EQ(watch.Report("nobody").liveness, NodeStatus::UNKNOWN);
}

// What nvidia-smi says there, by number.
TEST_F(HostWatchTest, ReportsAHostsGpus) {
  const fs::path nvidia_smi = directory_.path() / "nvidia-smi";
  std::ofstream(nvidia_smi) << "#!/bin/sh\n"
                               "[ \"$*\" = '--query-gpu=name,memory.total "
                               "--format=csv,noheader,nounits' ] || exit 1\n"
                               "echo 'NVIDIA H100 80GB HBM3, 81559'\n"
                               "echo 'NVIDIA A100-SXM4-40GB, 40960'\n";
  fs::permissions(nvidia_smi, fs::perms::owner_all);
  const EnvironmentVariable path("PATH",
                                 (directory_.path().string() + ":" + std::getenv("PATH")).c_str());
  const HostWatch watch({"a"}, ssh_);
  ASSERT_TRUE(WaitForLiveness(watch, "a", NodeStatus::UP));
  const NodeReport report = watch.Report("a");
  EXPECT_EQ(report.gpus, 2);
  ASSERT_EQ(report.gpu_list.size(), 2U);
  EXPECT_EQ(report.gpu_list[0].model(), "NVIDIA H100 80GB HBM3");
  EXPECT_EQ(report.gpu_list[1].memory_bytes(), std::int64_t{40960} << 20);
}

// Of this machine the driver's library says it, and nvidia-smi need not be there.
TEST(LookAtThisMachine, FindsItsGpus) {
  const EnvironmentVariable library("FR_NVML_LIBRARY", FR_FAKE_NVML_LIBRARY);
  const NodeReport report = LookAtThisMachine();
  EXPECT_EQ(report.liveness, NodeStatus::UP) << report.reason;
  EXPECT_EQ(report.cpus, static_cast<int>(std::thread::hardware_concurrency()));
  EXPECT_GT(report.memory_bytes, 0);
  EXPECT_EQ(report.gpus, 2);
  ASSERT_EQ(report.gpu_list.size(), 2U);
  EXPECT_EQ(report.gpu_list[0].model(), "NVIDIA H100 80GB HBM3");
  EXPECT_EQ(report.gpu_list[1].memory_bytes(), std::int64_t{40} << 30);
}

// A driver that fails costs the machine its GPUs, no more.
TEST(LookAtThisMachine, IsUpWithoutADriver) {
  const EnvironmentVariable library("FR_NVML_LIBRARY", FR_FAKE_NVML_LIBRARY);
  const EnvironmentVariable role("FR_FAKE_NVML", "no-driver");
  const NodeReport report = LookAtThisMachine();
  EXPECT_EQ(report.liveness, NodeStatus::UP) << report.reason;
  EXPECT_EQ(report.gpus, 0);
}

// Down with ssh's words, and up again; its neighbour does not notice.
TEST_F(HostWatchTest, TellsHostsThatDoNotAnswer) {
  SetDown("b", true);
  const HostWatch watch({"a", "b"}, ssh_);
  ASSERT_TRUE(WaitForLiveness(watch, "b", NodeStatus::DOWN));
  EXPECT_THAT(watch.Report("b").reason,
              testing::EndsWith("ssh: connect to host b port 22: No route to host"));
  EXPECT_TRUE(WaitForLiveness(watch, "a", NodeStatus::UP));
  SetDown("b", false);
  ASSERT_TRUE(WaitForLiveness(watch, "b", NodeStatus::UP));
  EXPECT_EQ(watch.Report("b").reason, "");
}

// A host whose ssh hangs is down, too; and the end of the watch does not wait for it.
TEST_F(HostWatchTest, DoesNotWaitForHostsThatHang) {
  std::ofstream(directory_.path() / "hang") << "#!/bin/sh\necho >>" << directory_.path() / "asked"
                                            << "\nexec sleep 600\n";
  fs::permissions(directory_.path() / "hang", fs::perms::owner_all);
  ssh_.set_command(directory_.path() / "hang");
  ssh_.set_probe_timeout_ms(100);
  {
    const HostWatch watch({"a"}, ssh_);
    ASSERT_TRUE(WaitForLiveness(watch, "a", NodeStatus::DOWN));
    EXPECT_THAT(watch.Report("a").reason, testing::EndsWith("did not end within 0.1 s"));
  }
  ssh_.set_probe_timeout_ms(3'600'000);
  fs::remove(directory_.path() / "asked");
  const HostWatch watch({"a"}, ssh_);
  ASSERT_TRUE(WaitFor([&] { return fs::exists(directory_.path() / "asked"); }));
}

// An ssh that is not there makes hosts unreachable, no more.
TEST_F(HostWatchTest, NamesAnSshThatIsNotThere) {
  ssh_.set_command("/no/such/ssh");
  const HostWatch watch({"a"}, ssh_);
  ASSERT_TRUE(WaitForLiveness(watch, "a", NodeStatus::DOWN));
  EXPECT_THAT(watch.Report("a").reason, testing::HasSubstr("/no/such/ssh"));
}

// All that has the attempt's mark, and nothing else, not even a name that begins alike.
TEST_F(HostWatchTest, SweepsOneAttempt) {
  const std::int64_t ours = StartMarked("/jobs/it's/attempt-1");
  const std::int64_t other = StartMarked("/jobs/it's/attempt-11");
  HostWatch watch({"a"}, ssh_);
  EXPECT_EQ(watch.StateOf("a", "/jobs/it's/attempt-1"), HostWatch::Swept::kNotAsked);
  watch.Sweep("a", "/jobs/it's/attempt-1");
  ASSERT_TRUE(WaitForSwept(watch, "a", "/jobs/it's/attempt-1", HostWatch::Swept::kDone));
  EXPECT_TRUE(WaitFor([&] { return !Lives(ours); }));
  EXPECT_TRUE(Lives(other));
  kill(static_cast<pid_t>(other), SIGKILL);
}

// What a host that was away has kept ends when it is back.
TEST_F(HostWatchTest, SweepsAHostThatIsBack) {
  const std::int64_t pid = StartMarked("/jobs/attempt-2");
  SetDown("a", true);
  HostWatch watch({"a"}, ssh_);
  watch.Sweep("a", "/jobs/attempt-2");
  ASSERT_TRUE(WaitForSwept(watch, "a", "/jobs/attempt-2", HostWatch::Swept::kUnreachable));
  EXPECT_TRUE(Lives(pid));
  SetDown("a", false);
  ASSERT_TRUE(WaitForSwept(watch, "a", "/jobs/attempt-2", HostWatch::Swept::kDone));
  EXPECT_TRUE(WaitFor([&] { return !Lives(pid); }));
}

// More hosts than are asked at a time: all have their turn.
TEST_F(HostWatchTest, LooksAtManyHosts) {
  std::vector<std::string> hosts;
  for (int i = 0; i < 50; ++i) hosts.push_back("host" + std::to_string(i));
  ssh_.set_probe_every_ms(600'000);
  const HostWatch watch(hosts, ssh_);
  for (const std::string& host : hosts) {
    EXPECT_TRUE(WaitForLiveness(watch, host, NodeStatus::UP)) << host;
  }
}

}  // namespace
}  // namespace fr
