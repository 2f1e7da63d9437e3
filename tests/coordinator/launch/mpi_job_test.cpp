#include "coordinator/launch/mpi_job.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/temporary_directory.h"
#include "coordinator/launch/attempt_files.h"
#include "coordinator/launch/pod_template.h"
#include "tests/python.h"

namespace fr {
namespace {

using nlohmann::json;
using testing::Contains;

// What k8s/examples/mpijob.yaml shows: the coordinator of k8s/base starts a job's second attempt.
MpiJobOptions Options() {
  MpiJobOptions options;
  options.instance = "k3v9x2mq";
  options.worker = "/usr/local/bin/fr-worker";
  options.mpirun = "mpirun";
  options.kill_grace_ms = 10'000;
  options.kubernetes.set_image("registry.example/fr:0.1.0");
  options.kubernetes.set_volume_claim("shared-fr-coordinator-0");
  return options;
}

LaunchRequest Request() {
  LaunchRequest request;
  request.job_id = "job-3";
  request.attempt = 2;
  request.threads_per_worker = 8;
  request.worker_bytes = std::int64_t{10} << 30;
  request.slots.emplace_back();
  request.slots.back().set_node("cluster");
  request.slots.back().set_slots(4);
  for (int gpu = 0; gpu < 4; ++gpu) request.slots.back().add_gpus(gpu);
  request.coordinator = "tcp://fr-coordinator:7070";
  request.directory = "/fr/state/jobs/job-3/attempt-2";
  return request;
}

const json& Template(const json& mpi_job, const char* role) {
  return mpi_job["spec"]["mpiReplicaSpecs"][role]["template"];
}
const json& Main(const json& mpi_job, const char* role) {
  return Template(mpi_job, role)["spec"]["containers"][0];
}

// The example in k8s/ is what is really made. tests/e2e/test_kubernetes_manifests.py holds it to
// the operator's schema.
TEST(MpiJob, IsTheExample) {
  const TemporaryDirectory directory;
  const std::string example = RunPython(directory.path(),
                                        "import json, yaml\n"
                                        "print(json.dumps(yaml.safe_load(open('" FR_SOURCE_DIR
                                        "/k8s/examples/mpijob.yaml'))))\n");
  EXPECT_EQ(MakeMpiJob(Request(), Options()).dump(1), json::parse(example).dump(1));
}

// The name is a function of the attempt, and all that operator and cluster derive from it is legal.
TEST(MpiJob, NamesAreShortDnsLabels) {
  EXPECT_EQ(MpiJobName("k3v9x2mq", "job-3", 2), "fr-k3v9x2mq-job-3-2");
  EXPECT_LE(MpiJobName("k3v9x2mq", "job-999999999999", 2147483647).size(), 50U);
  for (const char* id : {"job_3", "Job-3", "job 3", "a/b", "x\n"}) {
    EXPECT_THROW(MpiJobName("k3v9x2mq", id, 1), Error) << id;
  }
  EXPECT_THROW(MpiJobName("k3v9x2mq", std::string(60, 'a'), 1), Error);
}

// One pod a rank, and as many ranks as slots, over however many pools.
TEST(MpiJob, HasAPodForEveryRank) {
  LaunchRequest request = Request();
  request.slots.push_back(request.slots.back());
  request.slots.back().set_slots(3);
  const json mpi_job = MakeMpiJob(request, Options());
  EXPECT_EQ(mpi_job["spec"]["slotsPerWorker"], 1);
  EXPECT_EQ(mpi_job["spec"]["mpiReplicaSpecs"]["Worker"]["replicas"], 7);
  const auto command = Main(mpi_job, "Launcher")["command"].get<std::vector<std::string>>();
  EXPECT_THAT(command, testing::IsSupersetOf({"-np", "7"}));
}

// A worker asks for its threads' cores, its predicted memory and a tenth, and its GPU.
TEST(MpiJob, AsksForWhatAWorkerNeeds) {
  LaunchRequest request = Request();
  EXPECT_EQ(Main(MakeMpiJob(request, Options()), "Worker")["resources"],
            json::parse(R"({"requests": {"cpu": "8", "memory": "11264Mi"},
                            "limits": {"memory": "11264Mi", "nvidia.com/gpu": 1}})"));
  request.slots.back().clear_gpus();
  request.worker_bytes = 0;
  EXPECT_EQ(Main(MakeMpiJob(request, Options()), "Worker")["resources"],
            json::parse(R"({"requests": {"cpu": "8"}})"));
}

// Kubernetes takes $(A) in a command as a variable: a path with one arrives as it is.
TEST(MpiJob, DollarsAreLiteral) {
  LaunchRequest request = Request();
  request.directory = "/fr/$(HOME)/$x";
  const auto command =
      Main(MakeMpiJob(request, Options()), "Launcher")["command"].get<std::vector<std::string>>();
  EXPECT_THAT(command, Contains("/fr/$$(HOME)/$$x"));
}

// The user's template lies below what the launcher needs and above what it merely prefers.
TEST(MpiJob, TakesTheUsersTemplate) {
  MpiJobOptions options = Options();
  options.pod_template = ParsePodTemplate(R"(
metadata: {labels: {team: faces, fr/job: no}}
spec:
  nodeSelector: {pool: gpu}
  securityContext: {runAsUser: 2000}
  containers:
    - {name: sidecar, image: other}
    - {name: main, image: no, env: [{name: NCCL_DEBUG, value: INFO}]}
  volumes:
    - {name: sets, nfs: {server: nfs, path: /sets}}
)",
                                          "pod.yaml");
  const json mpi_job = MakeMpiJob(Request(), options);
  for (const char* role : {"Launcher", "Worker"}) {
    const json& spec = Template(mpi_job, role)["spec"];
    EXPECT_EQ(Template(mpi_job, role)["metadata"]["labels"]["team"], "faces");
    EXPECT_EQ(Template(mpi_job, role)["metadata"]["labels"]["fr/job"], "job-3");
    EXPECT_EQ(spec["nodeSelector"]["pool"], "gpu");
    EXPECT_EQ(spec["securityContext"]["runAsUser"], 2000);
    EXPECT_EQ(spec["securityContext"]["runAsNonRoot"], true);
    // The operator takes the first container for mpirun's or sshd's.
    EXPECT_EQ(spec["containers"][0]["name"], "main");
    EXPECT_EQ(spec["containers"][0]["image"], "registry.example/fr:0.1.0");
    EXPECT_EQ(spec["containers"][0]["env"][0]["name"], "NCCL_DEBUG");
    EXPECT_EQ(spec["containers"][1]["name"], "sidecar");
    EXPECT_EQ(spec["volumes"].size(), 2);
  }
}

// The launcher's command, run as Kubernetes would run it, with `claim` in the attempt's directory.
// Returns its exit status.
int RunLauncher(const std::filesystem::path& directory, const std::string& mpirun) {
  LaunchRequest request = Request();
  request.directory = directory;
  MpiJobOptions options = Options();
  options.mpirun = mpirun;
  const json command = Main(MakeMpiJob(request, options), "Launcher")["command"];
  const TemporaryDirectory scratch;
  return std::stoi(RunPython(scratch.path(),
                             "import json, subprocess\ncommand = json.loads(r'''" + command.dump() +
                                 "''')\nwords = [word.replace('$$', '$') for word in command]\n"
                                 "print(subprocess.run(words, stdout=subprocess.DEVNULL, "
                                 "stderr=subprocess.DEVNULL).returncode)\n"));
}

// mpirun's exit status is the pod's, and what it prints is where the coordinator looks for it.
TEST(MpiJob, LauncherRunsMpirun) {
  const TemporaryDirectory directory;
  std::ofstream(directory.path() / "mpirun")
      << "#!/bin/sh\necho out \"$2\"; echo err >&2; exit 7\n";
  std::filesystem::permissions(directory.path() / "mpirun", std::filesystem::perms::owner_all);
  EXPECT_EQ(RunLauncher(directory.path(), directory.path() / "mpirun"), 7);
  EXPECT_EQ(LogTail(directory.path(), 9), "out 4\nerr");
  // A pod that is started a second time finds the claim taken.
  EXPECT_EQ(RunLauncher(directory.path(), "/bin/true"), kNotClaimedStatus);
  EXPECT_EQ(ClaimVoid(directory.path()), "fr-k3v9x2mq-job-3-2");
}

// An attempt that was given up starts nothing, however late its MPIJob comes.
TEST(MpiJob, LauncherOfAVoidAttemptStartsNothing) {
  const TemporaryDirectory directory;
  EXPECT_EQ(ClaimVoid(directory.path()), std::nullopt);
  EXPECT_EQ(RunLauncher(directory.path(), "/bin/true"), kNotClaimedStatus);
  EXPECT_FALSE(std::filesystem::exists(directory.path() / kLogFile));
}

}  // namespace
}  // namespace fr
