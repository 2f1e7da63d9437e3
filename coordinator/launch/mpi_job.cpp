#include "coordinator/launch/mpi_job.h"

#include <algorithm>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/quoted.h"
#include "coordinator/launch/attempt_files.h"
#include "coordinator/launch/mpirun_command.h"
#include "coordinator/launch/pod_template.h"

namespace fr {
namespace {

using nlohmann::json;

// What the image of k8s/Containerfile has: tests/e2e/test_kubernetes_manifests.py holds the two
// together.
constexpr int kUser = 10001;
constexpr int kSshPort = 2222;
constexpr const char* kSshKeys = "/home/fr/.ssh";
constexpr const char* kSshConfig = "/etc/fr/sshd_config";

constexpr const char* kVolume = "fr";
// The longest name of which the operator's pods' names, with -launcher or -worker-12345, are DNS
// labels of 63 characters.
constexpr std::size_t kMaxNameLength = 50;
// The coordinator looks every second or so; the week is for when it is down, and for people.
constexpr int kKeepSeconds = 7 * 24 * 3600;
constexpr std::int64_t kMiB = 1 << 20;

// Behind ClaimScript(). mpirun takes the shell's place: it gets the pod's SIGTERM, and its exit
// status is the container's. Arguments: directory, MPIJob, command...
constexpr const char* kLauncherScript =
    "fr_claim \"$1\" \"$2\" || { echo \"$1: the attempt has been given up, or runs elsewhere\" "
    ">&2; "
    "exit 75; }\n"
    "log=$1/worker.log; shift 2; echo \"What mpirun prints is in $log\"\n"
    "exec \"$@\" >>\"$log\" 2>&1 </dev/null\n";

// In commands and arguments Kubernetes takes $$ as $, and $(NAME) as a variable.
std::string Literal(const std::string& text) {
  std::string literal;
  for (const char c : text) literal += c == '$' ? std::string("$$") : std::string(1, c);
  return literal;
}

int WorkerCount(const LaunchRequest& request) {
  int workers = 0;
  for (const NodeSlots& slots : request.slots) workers += slots.slots();
  return workers;
}

// Which of its GPUs a cluster gives is its own choice: that they have numbers tells that it takes
// some.
bool TakesGpus(const LaunchRequest& request) {
  return std::any_of(request.slots.begin(), request.slots.end(),
                     [](const NodeSlots& slots) { return slots.gpus_size() > 0; });
}

json Labels(const LaunchRequest& request, const MpiJobOptions& options, const std::string& name) {
  return {{"app.kubernetes.io/name", "fr-worker"},
          {kInstanceLabel, name},
          {"app.kubernetes.io/managed-by", "fr-coordinator"},
          {kCoordinatorLabel, options.instance},
          {kJobLabel, request.job_id},
          {kAttemptLabel, std::to_string(request.attempt)}};
}

// What a template file may change.
json DefaultTemplate() {
  return {
      {"spec",
       {{"automountServiceAccountToken", false},
        {"enableServiceLinks", false},
        {"securityContext",
         {{"runAsNonRoot", true},
          {"runAsUser", kUser},
          {"runAsGroup", kUser},
          {"fsGroup", kUser},
          {"fsGroupChangePolicy", "OnRootMismatch"},
          {"seccompProfile", {{"type", "RuntimeDefault"}}}}},
        {"containers", json::array({{{"name", kMainContainer},
                                     {"securityContext",
                                      {{"allowPrivilegeEscalation", false},
                                       {"capabilities", {{"drop", json::array({"ALL"})}}}}}}})}}}};
}

json MainContainer(const MpiJobOptions& options) {
  json container = {{"name", kMainContainer}, {"image", options.kubernetes.image()}};
  if (options.kubernetes.has_volume_claim()) {
    container["volumeMounts"] =
        json::array({{{"name", kVolume}, {"mountPath", options.kubernetes.mount_path()}}});
  }
  return container;
}

// What does not depend on the role, with `container` as the main one.
json PodTemplate(const MpiJobOptions& options, json labels, const char* component,
                 const json& container) {
  labels["app.kubernetes.io/component"] = component;
  // With 0 pods would count as gone before anyone has seen their processes end.
  const std::int64_t grace = std::max<std::int64_t>(1, (options.kill_grace_ms + 999) / 1000);
  json spec = {{"terminationGracePeriodSeconds", grace}, {"containers", json::array({container})}};
  if (options.kubernetes.has_service_account()) {
    spec["serviceAccountName"] = options.kubernetes.service_account();
  }
  if (options.kubernetes.has_volume_claim()) {
    spec["volumes"] = json::array(
        {{{"name", kVolume},
          {"persistentVolumeClaim", {{"claimName", options.kubernetes.volume_claim()}}}}});
  }
  const json ours = {{"metadata", {{"labels", std::move(labels)}}}, {"spec", std::move(spec)}};
  return MergePodTemplates(MergePodTemplates(DefaultTemplate(), options.pod_template), ours);
}

std::vector<std::string> LauncherWords(const LaunchRequest& request, const MpiJobOptions& options,
                                       const std::string& name) {
  std::vector<std::string> words = {
      "/bin/sh", "-c", ClaimScript() + kLauncherScript, "fr-launcher", request.directory.string(),
      name, options.mpirun, "-np", std::to_string(WorkerCount(request)),
      // Threads are the job's to count, and a pod's cores its own.
      "--bind-to", "none", "-x", fmt::format("OMP_NUM_THREADS={}", request.threads_per_worker)};
  words.insert(words.end(), options.mpirun_args.begin(), options.mpirun_args.end());
  const std::vector<std::string> worker = WorkerCommand(options.worker, request);
  words.insert(words.end(), worker.begin(), worker.end());
  return words;
}

json LauncherContainer(const LaunchRequest& request, const MpiJobOptions& options,
                       const std::string& name) {
  json container = MainContainer(options);
  json command = json::array();
  for (const std::string& word : LauncherWords(request, options, name)) {
    command.push_back(Literal(word));
  }
  container["command"] = std::move(command);
  // mpirun and its ssh to every worker.
  container["resources"] = {{"requests", {{"cpu", "100m"}, {"memory", "256Mi"}}}};
  return container;
}

// Cores are requested and not limited: a worker's threads for reading data may use what is free.
// Memory has a limit, a tenth above what was predicted: a worker that goes far beyond takes none
// of its neighbours down.
json WorkerResources(const LaunchRequest& request, const KubernetesSpec& kubernetes) {
  json requests = {{"cpu", std::to_string(std::max(1, request.threads_per_worker))}};
  json limits = json::object();
  if (request.worker_bytes > 0) {
    const std::int64_t bytes = request.worker_bytes + request.worker_bytes / 10;
    const std::string memory = fmt::format("{}Mi", (bytes + kMiB - 1) / kMiB);
    requests["memory"] = memory;
    limits["memory"] = memory;
  }
  if (TakesGpus(request)) limits[kubernetes.gpu_resource()] = 1;
  json resources = {{"requests", std::move(requests)}};
  if (!limits.empty()) resources["limits"] = std::move(limits);
  return resources;
}

json WorkerContainer(const LaunchRequest& request, const MpiJobOptions& options) {
  json container = MainContainer(options);
  container["command"] = json::array({"/usr/sbin/sshd", "-De", "-f", kSshConfig});
  container["ports"] = json::array({{{"name", "ssh"}, {"containerPort", kSshPort}}});
  // The launcher waits until all are ready: mpirun finds every sshd listening.
  container["readinessProbe"] = {{"tcpSocket", {{"port", kSshPort}}}, {"periodSeconds", 2}};
  container["resources"] = WorkerResources(request, options.kubernetes);
  return container;
}

}  // namespace

std::string MpiJobName(const std::string& instance, const std::string& job_id, int attempt) {
  std::string name = fmt::format("fr-{}-{}-{}", instance, job_id, attempt);
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  };
  if (attempt < 0 || name.size() > kMaxNameLength ||
      !std::all_of(name.begin(), name.end(), allowed)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} cannot be an MPIJob's name: {} lower-case letters, digits and "
                            "dashes at most",
                            Quoted(name), kMaxNameLength));
  }
  return name;
}

json MakeMpiJob(const LaunchRequest& request, const MpiJobOptions& options) {
  const std::string name = MpiJobName(options.instance, request.job_id, request.attempt);
  const json labels = Labels(request, options, name);
  const json launcher =
      PodTemplate(options, labels, "launcher", LauncherContainer(request, options, name));
  const json worker = PodTemplate(options, labels, "worker", WorkerContainer(request, options));
  return {{"apiVersion", "kubeflow.org/v2beta1"},
          {"kind", "MPIJob"},
          {"metadata",
           {{"name", name},
            {"labels", labels},
            {"annotations", {{kDirectoryAnnotation, request.directory.string()}}}}},
          {"spec",
           {{"slotsPerWorker", 1},
            {"mpiImplementation", "OpenMPI"},
            {"launcherCreationPolicy", "WaitForWorkersReady"},
            {"sshAuthMountPath", kSshKeys},
            // Restarting is the coordinator's: it takes a new attempt, perhaps with other workers.
            // The launcher's pod stays for its exit status, the workers' go.
            {"runPolicy",
             {{"cleanPodPolicy", "Running"},
              {"backoffLimit", 0},
              {"ttlSecondsAfterFinished", kKeepSeconds}}},
            {"mpiReplicaSpecs",
             {{"Launcher", {{"replicas", 1}, {"restartPolicy", "Never"}, {"template", launcher}}},
              {"Worker",
               {{"replicas", WorkerCount(request)},
                {"restartPolicy", "Never"},
                {"template", worker}}}}}}}};
}

}  // namespace fr
