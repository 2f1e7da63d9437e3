#include "worker/train/worker_run.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/logging.h"
#include "common/base/memory.h"
#include "common/config/job_config.h"
#include "common/plan/memory_plan.h"
#include "common/rpc/client.h"
#include "worker/comm/mpi_communicator.h"
#include "worker/comm/nccl_communicator.h"
#include "worker/comm/rank_messages.h"
#include "worker/data/training_set.h"
#include "worker/gpu/open_gpu.h"
#include "worker/telemetry/run_link.h"
#include "worker/train/choose_gpu.h"
#include "worker/train/error_text.h"
#include "worker/train/trainer.h"

namespace fr {
namespace {

// A coordinator that restarts is back within seconds; one that is gone for good is noticed at last.
constexpr std::int64_t kPatienceMs = 10 * 60 * 1000;
constexpr std::int64_t kLastWordsMs = 60 * 60 * 1000;
constexpr std::int64_t kFailureReportMs = 5000;

// Rank 0's link, or null elsewhere; nothing at all when the job file has mistakes.
struct Start {
  std::unique_ptr<RunLink> link;
  std::optional<Assignment> assignment;
};

Start StartFromJobFile(const WorkerOptions& options, int world_size) {
  JobConfig config = LoadJobConfig(options.job_file, options.overrides, PathCheck::kMustExist);
  if (!config.diagnostics.empty()) {
    std::fputs(FormatDiagnostics(config.diagnostics).c_str(), stderr);
    return {};
  }
  const std::string run_dir = std::filesystem::absolute(
      options.run_dir.empty() ? "runs/" + config.spec.name() : options.run_dir);
  Start start;
  start.link = MakeLocalLink(config.spec, run_dir);
  start.assignment = start.link->Begin(world_size);
  return start;
}

Start StartFromCoordinator(const WorkerOptions& options, int world_size) {
  Start start;
  start.link =
      MakeCoordinatorLink(options.coordinator, options.job_id, options.attempt, kPatienceMs);
  start.assignment = start.link->Begin(world_size);
  return start;
}

// The assignment as it travels from rank 0 to the others: the coordinator's own message.
std::string Pack(const std::optional<Assignment>& assignment) {
  if (!assignment) return "";
  GetAssignmentReply reply;
  *reply.mutable_spec() = assignment->spec;
  reply.set_run_dir(assignment->run_dir);
  reply.mutable_resume_from()->Assign(assignment->resume_from.begin(),
                                      assignment->resume_from.end());
  return reply.SerializeAsString();
}

std::optional<Assignment> Unpack(const std::string& bytes) {
  if (bytes.empty()) return std::nullopt;
  GetAssignmentReply reply;
  if (!reply.ParseFromString(bytes)) {
    throw Error(ErrorCode::kInternal, "rank 0 sent an assignment that cannot be read");
  }
  return Assignment{
      reply.spec(), reply.run_dir(), {reply.resume_from().begin(), reply.resume_from().end()}};
}

// Memory that each rank offers to the head: half of what its GPU has free, or an equal share of
// half of what its machine has, and the same for all, the smallest offer, so that the plan is even
// and does not follow the moment's noise.
std::vector<std::int64_t> HeadCapacities(Communicator& comm) {
  const Gpu* gpu = ProcessGpu();
  const std::int64_t free = gpu != nullptr ? gpu->memory().free_bytes
                                           : AvailableMemoryBytes() / comm.ranks_on_this_host();
  const std::vector<std::int64_t> offers = comm.AllGather(free / 2);
  return std::vector<std::int64_t>(offers.size(), *std::min_element(offers.begin(), offers.end()));
}

ShardPlan AgreeOnPlan(RunLink* link, const JobSpec& spec, std::int64_t num_identities,
                      Communicator& comm) {
  // Without a head a plan still says who is who.
  const std::int64_t bytes_per_identity = std::max<std::int64_t>(HeadBytesPerIdentity(spec), 1);
  const std::vector<std::int64_t> capacities = HeadCapacities(comm);
  std::string bytes;
  if (link != nullptr) {
    bytes = ToProto(link->Plan(num_identities, bytes_per_identity, capacities)).SerializeAsString();
  }
  ShardPlanProto proto;
  if (!proto.ParseFromString(comm.BroadcastBytes(bytes, 0))) {
    throw Error(ErrorCode::kInternal, "rank 0 sent a shard plan that cannot be read");
  }
  return FromProto(proto);
}

std::vector<NamedVerificationSet> OpenVerificationSets(const DataSpec& data) {
  std::vector<NamedVerificationSet> sets;
  for (const std::string& entry : data.validation()) {
    sets.push_back(
        {VerificationSetName(entry), VerificationSet::Open(VerificationSetPath(data, entry))});
  }
  return sets;
}

// Ends the whole job when a collective of the GPUs cannot end: the thread that computes may be
// blocked in the driver for ever.
CollectiveWatchOptions WatchOptions(int rank) {
  CollectiveWatchOptions options;
  options.timeout = CollectiveTimeoutFromEnvironment();
  options.on_failure = [rank](const Error& error) {
    spdlog::error("rank {}: {}", rank, error.what());
    MpiSession::Abort(ExitCodeFor(error.code()));
  };
  return options;
}

// The rank's GPU, while a job computes on it, and the collectives between GPUs.
class GpuForJob {
 public:
  GpuForJob(const JobSpec& spec, MpiCommunicator& comm)
      : gpu_(ChooseGpu(spec.resources().device(), spec.train().deterministic(), comm)),
        comm_(&comm) {
    if (!gpu_) return;
    UseGpu(gpu_.get());
    nccl_ = std::make_unique<NcclCommunicator>(comm, comm.NewMessages(), *gpu_, *NcclOrNull(),
                                               WatchOptions(comm.rank()));
    comm_ = nccl_.get();
  }
  ~GpuForJob() {
    if (gpu_) UseGpu(nullptr);
  }
  GpuForJob(const GpuForJob&) = delete;
  GpuForJob& operator=(const GpuForJob&) = delete;

  Communicator& comm() { return *comm_; }

 private:
  std::unique_ptr<Gpu> gpu_;
  std::unique_ptr<NcclCommunicator> nccl_;
  Communicator* comm_;
};

void Train(const Assignment& assignment, RunLink* link, MpiCommunicator& mpi) {
  const JobSpec& spec = assignment.spec;
  GpuForJob gpu(spec, mpi);
  Communicator& comm = gpu.comm();
  at::set_num_threads(spec.resources().threads_per_worker());
  const auto training_set = OpenTrainingSet(spec.data().train());
  const std::vector<NamedVerificationSet> verification_sets = OpenVerificationSets(spec.data());
  const ShardPlan plan = AgreeOnPlan(link, spec, training_set->num_identities(), comm);
  Trainer trainer({spec, *training_set, verification_sets, plan, assignment.run_dir, comm, link});
  if (!assignment.resume_from.empty()) {
    trainer.Restore(assignment.resume_from);
  } else {
    trainer.StartFromPretrained();
  }
  const bool is_done = trainer.Run();
  if (link == nullptr) return;
  if (is_done) {
    link->Finish(WorkerOutcome::DONE, "all steps are done", kLastWordsMs);
  } else {
    spdlog::info("stops here, as the coordinator has asked");
    link->Finish(WorkerOutcome::YIELDED, "", kLastWordsMs);
  }
}

// Whether the next attempt would meet the same failure.
bool FailsForGood(const std::exception& exception) {
  if (dynamic_cast<const c10::OutOfMemoryError*>(&exception) != nullptr) return true;
  const auto* error = dynamic_cast<const Error*>(&exception);
  if (error == nullptr) return false;
  switch (error->code()) {
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kNotFound:
    case ErrorCode::kDataLoss:
    case ErrorCode::kResourceExhausted:
      return true;
    default:
      return false;
  }
}

}  // namespace

int RunWorker(const WorkerOptions& options, MpiCommunicator& comm) {
  Start start;
  if (comm.rank() == 0) {
    start = options.job_file.empty() ? StartFromCoordinator(options, comm.world_size())
                                     : StartFromJobFile(options, comm.world_size());
  }
  const std::optional<Assignment> assignment =
      Unpack(comm.BroadcastBytes(Pack(start.assignment), 0));
  if (!assignment) return 2;
  try {
    Train(*assignment, start.link.get(), comm);
  } catch (const std::exception& error) {
    // Where there is no coordinator, rank 0 itself notes the failure in the run's store.
    if (options.coordinator.empty() && start.link != nullptr) {
      start.link->Finish(WorkerOutcome::FAILED_FOR_GOOD, ErrorText(error), kFailureReportMs);
    }
    throw;
  }
  return 0;
}

int ReportFailure(const WorkerOptions& options, int rank, const std::exception& error) {
  const auto* known = dynamic_cast<const Error*>(&error);
  // Of all ranks only rank 0 has a link, but any may be the one that knows.
  const std::string text = ErrorText(error);
  const std::string reason = fmt::format("rank {}: {}", rank, text);
  spdlog::error("{}", text);
  if (!options.coordinator.empty() && FailsForGood(error)) {
    try {
      RpcClient client(options.coordinator);
      Request request;
      WorkerReportRequest* report = request.mutable_worker_report();
      report->set_job_id(options.job_id);
      report->set_attempt(options.attempt);
      report->set_outcome(WorkerOutcome::FAILED_FOR_GOOD);
      report->set_reason(reason);
      client.Call(std::move(request), kFailureReportMs);
    } catch (const Error& unheard) {
      // Another rank was first, or the coordinator is away: the attempt's log has it.
      spdlog::info("the coordinator did not take the report: {}", unheard.what());
    }
  }
  return known != nullptr ? ExitCodeFor(known->code()) : 1;
}

}  // namespace fr
