#pragma once
// An attempt as an MPIJob of the MPI Operator (kubeflow.org/v2beta1). Pure.

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "coordinator/launch/launcher.h"
#include "proto/coordinator.pb.h"

namespace fr {

// Of MPIJobs and pods. The standard label app.kubernetes.io/instance holds the MPIJob's name.
inline constexpr const char* kCoordinatorLabel = "fr/coordinator";
inline constexpr const char* kJobLabel = "fr/job";
inline constexpr const char* kAttemptLabel = "fr/attempt";
inline constexpr const char* kInstanceLabel = "app.kubernetes.io/instance";
// Of the launcher's pod, which the operator sets: "launcher", "worker".
inline constexpr const char* kRoleLabel = "training.kubeflow.org/job-role";
inline constexpr const char* kMainContainer = "main";                // in all of an attempt's pods
inline constexpr const char* kDirectoryAnnotation = "fr/directory";  // of MPIJobs: the attempt's

// What a launcher exits with that may not start its attempt.
inline constexpr int kNotClaimedStatus = 75;

struct MpiJobOptions {
  std::string instance;  // of the coordinator: 8 lower-case letters and digits
  std::string worker;    // path of fr-worker in the image
  std::string mpirun;
  std::vector<std::string> mpirun_args;
  std::int64_t kill_grace_ms = 0;
  KubernetesSpec kubernetes;
  nlohmann::json pod_template = nlohmann::json::object();  // of template_file
};

// "fr-INSTANCE-job-3-2": the same for the same attempt, and short enough for the operator, which
// names pods after it. Throws Error(kInvalidArgument) for a job id that cannot be part of a
// Kubernetes name.
std::string MpiJobName(const std::string& instance, const std::string& job_id, int attempt);

// The MPIJob for `request`. One pod a rank (slotsPerWorker 1), as one rank is what resources are
// reckoned for: Kubernetes finds room for small equal pods where it would not for few large ones,
// and a pod that fails is a rank that fails. The launcher's pod runs mpirun, whose output goes into
// the attempt's log on the shared volume, where the coordinator reads it. Throws as MpiJobName.
nlohmann::json MakeMpiJob(const LaunchRequest& request, const MpiJobOptions& options);

}  // namespace fr
