#include "coordinator/launch/kubernetes_launcher.h"

#include <cstdlib>
#include <random>
#include <utility>

#include <fmt/format.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/logging.h"
#include "common/base/trimmed.h"
#include "coordinator/launch/attempt_files.h"
#include "coordinator/launch/kubernetes_api.h"
#include "coordinator/launch/mpi_job.h"
#include "coordinator/launch/mpi_job_status.h"
#include "coordinator/launch/pod_template.h"

namespace fr {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// What was listed serves for so long: coordinators look more often than API servers like.
constexpr std::int64_t kLookEveryMs = 1'000;
constexpr std::int64_t kNodesEveryMs = 5'000;
// A cluster that has not answered for so long is down; shorter, it may be busy.
constexpr std::int64_t kDownAfterMs = 15'000;
constexpr const char* kInstanceFile = "kubernetes-instance";
constexpr std::size_t kInstanceLength = 8;

// All that there is of this coordinator's, when it was last asked for.
struct Snapshot {
  std::int64_t taken_ms = -1;  // of the steady clock; negative: never
  std::string problem;         // why there is nothing
  std::vector<json> jobs;
  std::vector<json> pods;
};

class KubernetesLauncher : public Launcher {
 public:
  KubernetesLauncher(MpiJobOptions options, KubernetesAccess access, const std::string& space,
                     std::string state_dir, std::vector<std::string> nodes)
      : options_(std::move(options)),
        api_(std::move(access)),
        mpi_jobs_(fmt::format("/apis/kubeflow.org/v2beta1/namespaces/{}/mpijobs", space)),
        pods_(fmt::format("/api/v1/namespaces/{}/pods", space)),
        state_dir_(std::move(state_dir)),
        nodes_(std::move(nodes)) {}

  LaunchRecord Start(const LaunchRequest& request) override;
  std::optional<LaunchRecord> Recover(const LaunchRequest& request) override;
  std::vector<AttemptStatus> Look(const std::vector<LaunchRecord>& records) override;
  void Stop(const LaunchRecord& record, StopMode mode) override;
  std::vector<NodeReport> Nodes() override;
  bool DealsOutMachines() const override { return false; }

 private:
  LaunchRecord Record(const LaunchRequest& request) const;
  LaunchRecord AfterNoAnswer(const LaunchRequest& request, const std::string& problem);
  void Refresh(std::int64_t max_age_ms);
  AttemptStatus Status(const LaunchRecord& record) const;
  void DeleteStrays(const std::vector<LaunchRecord>& records);
  void DeleteMpiJob(const std::string& name);

  MpiJobOptions options_;
  KubernetesApi api_;
  std::string mpi_jobs_;  // paths of the collections
  std::string pods_;
  fs::path state_dir_;
  std::vector<std::string> nodes_;
  Snapshot snapshot_;
  std::int64_t answered_ms_ = -1;  // of the steady clock
  std::int64_t seen_ms_ = 0;       // the same in Unix time
};

// What a refusal that will be the same next time means for a job.
Error Refusal(const ApiAnswer& answer) {
  return {answer.try_later() ? ErrorCode::kUnavailable : ErrorCode::kFailedPrecondition,
          "Kubernetes: " + answer.problem};
}

LaunchRecord KubernetesLauncher::Record(const LaunchRequest& request) const {
  LaunchRecord record;
  record.set_handle(MpiJobName(options_.instance, request.job_id, request.attempt));
  record.set_directory(request.directory.string());
  record.set_started_ms(UnixMillis());
  for (const NodeSlots& slots : request.slots) *record.add_slots() = slots;
  return record;
}

LaunchRecord KubernetesLauncher::Start(const LaunchRequest& request) {
  const json body = MakeMpiJob(request, options_);
  MakeDirectories(request.directory);
  snapshot_.taken_ms = -1;
  const ApiAnswer answer = api_.Post(mpi_jobs_, body, "create mpijobs");
  if (answer.ok()) return Record(request);
  // The name is this attempt's alone: an earlier call has made it.
  if (answer.status == 409 && TextAt(answer.body, {"reason"}) == "AlreadyExists") {
    return Record(request);
  }
  const bool refused = answer.status == 429 || (answer.status != 0 && answer.status < 500);
  if (refused || !answer.sent) throw Refusal(answer);
  return AfterNoAnswer(request, answer.problem);
}

// The request has left, and it cannot be told what became of it.
LaunchRecord KubernetesLauncher::AfterNoAnswer(const LaunchRequest& request,
                                               const std::string& problem) {
  LaunchRecord record = Record(request);
  const ApiAnswer answer = api_.Get(mpi_jobs_ + "/" + record.handle(), "get mpijobs");
  if (answer.ok() || ClaimVoid(request.directory).has_value()) return record;
  throw Error(ErrorCode::kUnavailable, "Kubernetes: " + problem);
}

std::optional<LaunchRecord> KubernetesLauncher::Recover(const LaunchRequest& request) {
  LaunchRecord record = Record(request);
  snapshot_.taken_ms = -1;
  const ApiAnswer answer = api_.Get(mpi_jobs_ + "/" + record.handle(), "get mpijobs");
  if (answer.ok()) return record;
  if (answer.status != 404) {
    throw Error(ErrorCode::kUnavailable, "Kubernetes: " + answer.problem);
  }
  // The dead coordinator's request may still be on its way. What it makes then finds the attempt
  // void, and is deleted as a stray.
  if (ClaimVoid(request.directory).has_value()) return record;
  return std::nullopt;
}

void KubernetesLauncher::Refresh(std::int64_t max_age_ms) {
  if (snapshot_.taken_ms >= 0 && SteadyMillis() - snapshot_.taken_ms < max_age_ms) return;
  Snapshot fresh;
  const std::string selector = fmt::format("{}={}", kCoordinatorLabel, options_.instance);
  // Pods last: an MPIJob that is gone gets no more of them, so none is missed.
  ApiAnswer answer = api_.List(mpi_jobs_, selector, "list mpijobs", &fresh.jobs);
  if (answer.ok()) answer = api_.List(pods_, selector, "list pods", &fresh.pods);
  fresh.problem = answer.problem;
  fresh.taken_ms = SteadyMillis();
  if (answer.ok()) {
    answered_ms_ = fresh.taken_ms;
    seen_ms_ = UnixMillis();
  }
  snapshot_ = std::move(fresh);
}

AttemptStatus KubernetesLauncher::Status(const LaunchRecord& record) const {
  AttemptStatus status;
  if (!snapshot_.problem.empty()) {
    status.reason = "Kubernetes: " + snapshot_.problem;
    return status;
  }
  if (record.handle().empty()) {
    status.reason = "it is not known whether its MPIJob was made";
    return status;
  }
  json mpi_job;
  for (const json& job : snapshot_.jobs) {
    if (TextAt(job, {"metadata", "name"}) == record.handle()) mpi_job = job;
  }
  std::vector<json> pods;
  for (const json& pod : snapshot_.pods) {
    if (TextAt(pod, {"metadata", "labels", kInstanceLabel}) == record.handle()) pods.push_back(pod);
  }
  return MpiJobStatus(record.handle(), mpi_job, pods, UnixMillis());
}

std::vector<AttemptStatus> KubernetesLauncher::Look(const std::vector<LaunchRecord>& records) {
  Refresh(kLookEveryMs);
  std::vector<AttemptStatus> statuses;
  statuses.reserve(records.size());
  for (const LaunchRecord& record : records) statuses.push_back(Status(record));
  DeleteStrays(records);
  return statuses;
}

// Whether the attempt in this directory has been given up for good.
bool IsVoid(const fs::path& directory) {
  try {
    return Trimmed(ReadFile(directory / kClaimFile)) == "void";
  } catch (const Error&) {
    return false;
  }
}

// What no attempt of `records` is, and never will: its pods would wait for nothing.
void KubernetesLauncher::DeleteStrays(const std::vector<LaunchRecord>& records) {
  for (const json& job : snapshot_.jobs) {
    const std::string name = TextAt(job, {"metadata", "name"});
    const fs::path directory = TextAt(job, {"metadata", "annotations", kDirectoryAnnotation});
    bool known = !TextAt(job, {"metadata", "deletionTimestamp"}).empty();
    for (const LaunchRecord& record : records) known = known || record.handle() == name;
    if (known || !directory.string().starts_with(state_dir_.string()) || !IsVoid(directory)) {
      continue;
    }
    spdlog::warn("Kubernetes: MPIJob {} came after its attempt was given up: deleted", name);
    DeleteMpiJob(name);
  }
}

// In the foreground: the MPIJob stays to be seen until its pods are gone.
void KubernetesLauncher::DeleteMpiJob(const std::string& name) {
  const json options = {
      {"apiVersion", "v1"}, {"kind", "DeleteOptions"}, {"propagationPolicy", "Foreground"}};
  const ApiAnswer answer = api_.Delete(mpi_jobs_ + "/" + name, options, "delete mpijobs");
  snapshot_.taken_ms = -1;
  if (!answer.ok() && answer.status != 404) {
    spdlog::warn("Kubernetes: MPIJob {} could not be deleted: {}", name, answer.problem);
  }
}

void KubernetesLauncher::Stop(const LaunchRecord& record, StopMode mode) {
  if (record.handle().empty()) return;
  DeleteMpiJob(record.handle());
  if (mode == StopMode::kAsk) return;
  // A second instead of none at all: pods then stay until their node has seen them end.
  const json options = {{"apiVersion", "v1"}, {"kind", "DeleteOptions"}, {"gracePeriodSeconds", 1}};
  const std::string selector = QueryValue(fmt::format("{}={}", kInstanceLabel, record.handle()));
  const ApiAnswer answer =
      api_.Delete(fmt::format("{}?labelSelector={}", pods_, selector), options, "delete pods");
  if (!answer.ok()) {
    spdlog::warn("Kubernetes: the pods of {} could not be deleted: {}", record.handle(),
                 answer.problem);
  }
}

std::vector<NodeReport> KubernetesLauncher::Nodes() {
  Refresh(kNodesEveryMs);
  NodeReport report;
  report.seen_ms = seen_ms_;
  const bool up = answered_ms_ >= 0 &&
                  (snapshot_.problem.empty() || SteadyMillis() - answered_ms_ < kDownAfterMs);
  report.liveness = up ? NodeStatus::UP : NodeStatus::DOWN;
  if (!up) report.reason = "Kubernetes: " + snapshot_.problem;
  std::vector<NodeReport> reports(nodes_.size(), report);
  for (std::size_t i = 0; i < nodes_.size(); ++i) reports[i].name = nodes_[i];
  return reports;
}

Error Invalid(const std::string& text) { return {ErrorCode::kInvalidArgument, text}; }

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string ApiUrl(const KubernetesSpec& spec) {
  if (spec.has_api()) {
    // A token is for one who has proved who he is.
    if (!spec.api().starts_with("https://")) {
      throw Invalid("kubernetes.api: " + spec.api() + ": https://HOST:PORT is expected");
    }
    return spec.api();
  }
  const std::string host = Environment("KUBERNETES_SERVICE_HOST");
  const std::string port = Environment("KUBERNETES_SERVICE_PORT");
  if (host.empty() || port.empty()) {
    throw Invalid(
        "kubernetes.api is missing: https://HOST:PORT of the API server is needed where "
        "the coordinator runs in no pod of the cluster");
  }
  const bool ipv6 = host.find(':') != std::string::npos;
  return fmt::format("https://{}:{}", ipv6 ? "[" + host + "]" : host, port);
}

std::string Namespace(const KubernetesSpec& spec) {
  if (spec.has_namespace_()) return spec.namespace_();
  const fs::path file = fs::path(spec.token_file()).parent_path() / "namespace";
  try {
    return std::string(Trimmed(ReadFile(file)));
  } catch (const Error&) {
    throw Invalid(
        fmt::format("kubernetes.namespace is missing: it is needed where the coordinator "
                    "runs in no pod of the cluster ({} cannot be read)",
                    file.string()));
  }
}

void CheckSpec(const CoordinatorSpec& spec) {
  const KubernetesSpec& kubernetes = spec.kubernetes();
  if (kubernetes.image().empty()) {
    throw Invalid("kubernetes.image is missing: the container image of k8s/Containerfile");
  }
  if (!kubernetes.has_volume_claim() && !kubernetes.has_template_file()) {
    throw Invalid(
        "kubernetes.volume_claim is missing: a PersistentVolumeClaim with state_dir and "
        "the data sets (or a volume in kubernetes.template_file)");
  }
  const fs::path mount = fs::path(kubernetes.mount_path()).lexically_normal() / "";
  const std::string state = (fs::path(spec.state_dir()).lexically_normal() / "").string();
  if (kubernetes.has_volume_claim() && !state.starts_with(mount.string())) {
    throw Invalid(
        fmt::format("state_dir: {} does not lie below kubernetes.mount_path, {}: the "
                    "workers would not find their job's files",
                    spec.state_dir(), kubernetes.mount_path()));
  }
  for (const std::string& file : {kubernetes.token_file(), kubernetes.ca_file()}) ReadFile(file);
}

// The name of this state_dir's coordinator: another one, or the same with its state lost, must not
// take its MPIJobs for its own.
std::string Instance(const fs::path& state_dir) {
  MakeDirectories(state_dir);
  const fs::path file = state_dir / kInstanceFile;
  std::error_code error;
  if (!fs::exists(file, error)) {
    constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz0123456789";
    std::random_device device;
    std::string fresh;
    while (fresh.size() < kInstanceLength) fresh += kLetters[device() % kLetters.size()];
    WriteFileAtomically(file, fresh + "\n");
  }
  const std::string text = ReadFile(file);
  std::string instance(Trimmed(text));
  if (instance.size() != kInstanceLength) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: {} letters are expected; with another name this coordinator does "
                            "not find its MPIJobs",
                            file.string(), kInstanceLength));
  }
  return instance;
}

}  // namespace

std::unique_ptr<Launcher> MakeKubernetesLauncher(const CoordinatorSpec& spec,
                                                 const std::string& worker) {
  CheckSpec(spec);
  const KubernetesSpec& kubernetes = spec.kubernetes();
  KubernetesAccess access;
  access.url = ApiUrl(kubernetes);
  access.token_file = kubernetes.token_file();
  access.ca_file = kubernetes.ca_file();
  MpiJobOptions options;
  options.worker = worker;
  options.mpirun = spec.mpirun();
  options.mpirun_args = {spec.mpirun_args().begin(), spec.mpirun_args().end()};
  options.kill_grace_ms = spec.kill_grace_ms();
  options.kubernetes = kubernetes;
  if (kubernetes.has_template_file()) {
    options.pod_template = ReadPodTemplate(kubernetes.template_file());
  }
  options.instance = Instance(spec.state_dir());
  std::vector<std::string> nodes;
  for (const NodeSpec& node : spec.nodes()) nodes.push_back(node.name());
  return std::make_unique<KubernetesLauncher>(std::move(options), std::move(access),
                                              Namespace(kubernetes), spec.state_dir(),
                                              std::move(nodes));
}

}  // namespace fr
