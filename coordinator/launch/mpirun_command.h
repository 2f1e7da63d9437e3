#pragma once
// The command lines that start an attempt's workers.

#include <string>
#include <vector>

#include "coordinator/launch/launcher.h"
#include "proto/coordinator.pb.h"

namespace fr {

// This machine, without ssh, under every launcher that knows machines.
inline constexpr const char* kThisMachine = "localhost";

// fr-worker with the arguments by which it finds its job, whoever starts it. `worker`: its path.
std::vector<std::string> WorkerCommand(const std::string& worker, const LaunchRequest& request);

// mpirun with its arguments for `request`; `worker`: path of fr-worker. An attempt on this machine
// alone names no host. Otherwise each node has a part of its own (": " between them): only so do
// ranks fill the nodes in the order of the request and have the environment of their node. Pure,
// but that Open MPI needs to be told when this process runs as root.
std::vector<std::string> MpirunCommand(const CoordinatorSpec& spec, const std::string& worker,
                                       const LaunchRequest& request);

// Open MPI splits the words of its ssh agent at blanks and colons. Throws Error(kInvalidArgument)
// for a `spec.ssh()` with such words, naming it and the remedy.
void CheckMpirunAgent(const CoordinatorSpec& spec);

}  // namespace fr
