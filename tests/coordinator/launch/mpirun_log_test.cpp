#include "coordinator/launch/mpirun_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

// The logs are what Open MPI 4.1.4 said when these things were done to it.

namespace fr {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<NodeSlots> Slots(const std::vector<std::pair<std::string, int>>& nodes) {
  std::vector<NodeSlots> slots;
  for (const auto& [name, count] : nodes) {
    slots.emplace_back();
    slots.back().set_node(name);
    slots.back().set_slots(count);
  }
  return slots;
}

const std::vector<NodeSlots> kFour =
    Slots({{"node1", 2}, {"node2", 2}, {"node3", 2}, {"node4", 2}});

constexpr const char* kLost = R"(
--------------------------------------------------------------------------
ORTE has lost communication with a remote daemon.

  HNP daemon   : [[13691,0],0] on node vm
  Remote daemon: [[13691,0],2] on node node2

This is usually due to either a failure of the TCP network
connection to the node, or possibly an internal failure of
the daemon itself. We cannot recover from this failure, and
therefore will terminate the job.
--------------------------------------------------------------------------
)";

constexpr const char* kKilled = R"(
--------------------------------------------------------------------------
mpirun noticed that process rank 5 with PID 322 on node node3 exited on signal 9 (Killed).
--------------------------------------------------------------------------
)";

// A network that was cut, or a daemon that died.
TEST(MpirunLog, NamesALostHost) {
  const MpirunEnd end = ReadMpirunEnd(kLost, kFour);
  EXPECT_THAT(end.nodes, ElementsAre("node2"));
  EXPECT_TRUE(end.nodes_lost);
  EXPECT_EQ(end.reason, "the connection to node2 was lost");
}

// mpirun may call it by its own host name. Its daemons are numbered as its hosts are.
TEST(MpirunLog, KnowsALostHostByItsNumber) {
  const auto slots = Slots({{"localhost", 2}, {"gpu-a", 2}, {"gpu-b", 2}});
  EXPECT_THAT(ReadMpirunEnd(kLost, slots).nodes, ElementsAre("gpu-b"));
}

// Ranks on other hosts fall with it: they are not to blame.
TEST(MpirunLog, BlamesTheLostHostFirst) {
  const MpirunEnd end = ReadMpirunEnd(std::string(kKilled) + kLost, kFour);
  EXPECT_THAT(end.nodes, ElementsAre("node2"));
}

// A rank that the kernel ended.
TEST(MpirunLog, NamesTheNodeOfAKilledRank) {
  const MpirunEnd end = ReadMpirunEnd(kKilled, kFour);
  EXPECT_THAT(end.nodes, ElementsAre("node3"));
  EXPECT_FALSE(end.nodes_lost);
  EXPECT_EQ(end.reason, "rank 5 on node3 ended by signal 9: Killed; out of memory?");
}

// A rank that was asked to end.
TEST(MpirunLog, BlamesNobodyForWhatWasAsked) {
  const MpirunEnd end = ReadMpirunEnd(
      "mpirun noticed that process rank 0 with PID 0 on node node1 exited on signal 15 "
      "(Terminated).\n",
      kFour);
  EXPECT_THAT(end.nodes, IsEmpty());
}

// Workers that ended by themselves have said why; only their node is known from here.
TEST(MpirunLog, NamesTheNodeOfARankThatFailed) {
  const MpirunEnd exited = ReadMpirunEnd(R"(
mpirun detected that one or more processes exited with non-zero status, thus causing
the job to be terminated. The first process to do so was:

  Process name: [[14595,1],6]
  Exit code:    3
)",
                                         kFour);
  EXPECT_THAT(exited.nodes, ElementsAre("node4"));
  EXPECT_EQ(exited.reason, "");
  const MpirunEnd aborted = ReadMpirunEnd(
      "MPI_ABORT was invoked on rank 0 in communicator MPI_COMM_WORLD\nwith errorcode 4.\n", kFour);
  EXPECT_THAT(aborted.nodes, ElementsAre("node1"));
}

// fr-worker is not there.
TEST(MpirunLog, NamesTheNodeThatLacksAProgram) {
  const MpirunEnd end = ReadMpirunEnd(R"(
mpirun was unable to launch the specified application as it could not access
or execute an executable:

Executable: /opt/fr/bin/fr-worker
Node: node3

while attempting to start process rank 4.
)",
                                      kFour);
  EXPECT_THAT(end.nodes, ElementsAre("node3"));
  EXPECT_EQ(end.reason, "/opt/fr/bin/fr-worker cannot be executed on node3");
}

// ssh failed: mpirun does not say where. What ssh said stays in the log's tail.
TEST(MpirunLog, SaysThatAHostDidNotStart) {
  const MpirunEnd end = ReadMpirunEnd(
      "ssh: connect to host 10.77.0.13 port 22: Connection timed out\n"
      "ORTE was unable to reliably start one or more daemons.\n",
      kFour);
  EXPECT_THAT(end.nodes, IsEmpty());
  EXPECT_EQ(end.reason, "mpirun could not start its daemon on every host");
}

// Whatever workers print, nothing bad comes of it.
TEST(MpirunLog, IsNotMisledByNonsense) {
  for (const std::string& log :
       {std::string(), std::string("Remote daemon: [[,],99999999999999999999] on node"),
        "Executable: " + std::string(1 << 20, 'x'),
        std::string("MPI_ABORT was invoked on rank 77 in"),
        std::string("noticed that process rank -5 with exited on signal 9 (")}) {
    EXPECT_THAT(ReadMpirunEnd(log, kFour).nodes, IsEmpty());
  }
}

}  // namespace
}  // namespace fr
