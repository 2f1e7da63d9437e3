#pragma once
// Attempts as MPIJobs of Kubernetes' MPI Operator. docs/launchers.md is the users' page, k8s/ what
// is installed.

#include <memory>
#include <string>

#include "coordinator/launch/launcher.h"
#include "proto/coordinator.pb.h"

namespace fr {

// Within a pod address and namespace are found where `spec.kubernetes` does not give them. Makes
// state_dir and, once, a file in it with the name by which this coordinator's MPIJobs are told from
// others'. `worker`: path of fr-worker in the image. Throws Error(kInvalidArgument) for what the
// configuration lacks and for a wrong template_file, with its lines, Error(kNotFound) for a file
// that is not there, Error(kIo). The API server is not asked: it may be down just now.
std::unique_ptr<Launcher> MakeKubernetesLauncher(const CoordinatorSpec& spec,
                                                 const std::string& worker);

}  // namespace fr
