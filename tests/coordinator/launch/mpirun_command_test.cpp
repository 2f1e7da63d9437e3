#include "coordinator/launch/mpirun_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"

namespace fr {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsSupersetOf;
using testing::Not;

LaunchRequest Request(const std::vector<std::pair<std::string, int>>& nodes) {
  LaunchRequest request;
  request.job_id = "job-7";
  request.attempt = 3;
  request.threads_per_worker = 4;
  request.coordinator = "tcp://10.0.0.1:7070";
  request.directory = "/shared/job-7/attempt-3";
  for (const auto& [name, count] : nodes) {
    request.slots.emplace_back();
    request.slots.back().set_node(name);
    request.slots.back().set_slots(count);
  }
  return request;
}

// The words of each of mpirun's parts, without what stands before -np in the first.
std::vector<std::vector<std::string>> Parts(const std::vector<std::string>& command) {
  std::vector<std::vector<std::string>> parts(1);
  bool begun = false;
  for (const std::string& word : command) {
    begun = begun || word == "-np";
    if (word == ":") {
      parts.emplace_back();
    } else if (begun) {
      parts.back().push_back(word);
    }
  }
  return parts;
}

// On this machine mpirun needs to know nothing of hosts.
TEST(MpirunCommand, StartsWorkersHere) {
  CoordinatorSpec spec;
  spec.add_mpirun_args("--extra");
  const auto command = MpirunCommand(spec, "/bin/fr-worker", Request({{"localhost", 2}}));
  EXPECT_EQ(command.front(), "mpirun");
  EXPECT_THAT(command, IsSupersetOf({"--oversubscribe", "--extra"}));
  EXPECT_THAT(command, Not(Contains("--host")));
  EXPECT_THAT(Parts(command),
              ElementsAre(ElementsAre("-np", "2", "-x", "OMP_NUM_THREADS=4", "/bin/fr-worker",
                                      "--coordinator", "tcp://10.0.0.1:7070", "--job-id", "job-7",
                                      "--attempt", "3")));
}

// Each host has its part, in the order of the request, with the attempt's mark and its GPUs.
TEST(MpirunCommand, GivesEachHostAPart) {
  LaunchRequest request = Request({{"node3", 2}, {"node1", 1}});
  request.slots[0].add_gpus(0);
  request.slots[0].add_gpus(3);
  const auto parts = Parts(MpirunCommand({}, "w", request));
  ASSERT_EQ(parts.size(), 2U);
  EXPECT_THAT(parts[0], ElementsAre("-np", "2", "--host", "node3:2", "-x",
                                    "FR_ATTEMPT=/shared/job-7/attempt-3", "-x", "OMP_NUM_THREADS=4",
                                    "-x", "CUDA_DEVICE_ORDER=PCI_BUS_ID", "-x",
                                    "CUDA_VISIBLE_DEVICES=0,3", "w", "--coordinator",
                                    "tcp://10.0.0.1:7070", "--job-id", "job-7", "--attempt", "3"));
  EXPECT_THAT(parts[1], IsSupersetOf({"--host", "node1:1", "OMP_NUM_THREADS=4"}));
  EXPECT_THAT(parts[1], Not(Contains("CUDA_VISIBLE_DEVICES=0,3")));
}

// Hosts are reached as `ssh` says, which never asks a person anything.
TEST(MpirunCommand, ReachesHostsOverSsh) {
  CoordinatorSpec spec;
  spec.mutable_ssh()->add_args("-F");
  spec.mutable_ssh()->add_args("/etc/fr/ssh_config");
  EXPECT_THAT(MpirunCommand(spec, "w", Request({{"node1", 1}})),
              Contains("ssh -F /etc/fr/ssh_config -o BatchMode=yes -o ConnectTimeout=10 -o "
                       "ServerAliveInterval=5 -o ServerAliveCountMax=3 -o ForwardX11=no"));
  spec.mutable_ssh()->set_command("/opt/reach");
  EXPECT_THAT(MpirunCommand(spec, "w", Request({{"node1", 1}})),
              Contains("/opt/reach -F /etc/fr/ssh_config"));
}

// Open MPI refuses a parameter that is said twice.
TEST(MpirunCommand, LeavesParametersToTheConfiguration) {
  CoordinatorSpec spec;
  for (const char* word : {"-mca", "oob_tcp_keepalive_time", "60"}) spec.add_mpirun_args(word);
  const auto command = MpirunCommand(spec, "w", Request({{"node1", 1}}));
  EXPECT_EQ(std::count(command.begin(), command.end(), "oob_tcp_keepalive_time"), 1);
  EXPECT_THAT(command, IsSupersetOf({"60", "oob_tcp_keepalive_intvl"}));
}

// mpirun would take its agent's words apart otherwise than we put them together.
TEST(MpirunCommand, RefusesSshWordsThatItWouldSplit) {
  for (const char* word : {"ProxyCommand=nc %h 22", "a:b", ""}) {
    CoordinatorSpec spec;
    EXPECT_NO_THROW(CheckMpirunAgent(spec));
    spec.mutable_ssh()->add_args(word);
    EXPECT_THROW(CheckMpirunAgent(spec), Error);
  }
}

}  // namespace
}  // namespace fr
