// fr-fake-worker: what fr-worker looks like from outside, without LibTorch, MPI and training. It
// takes fr-worker's flags, and is started by mpirun or srun as that is:
//
//   mpirun -np N fr-fake-worker --coordinator ADDR --job-id ID --attempt K
//
// Rank 0 asks for its assignment and a plan, makes steps up to train.max_steps, each of
// FR_FAKE_STEP_MS (20 where it is not set) milliseconds, reports each, commits checkpoints, yields
// when asked, and waits out an absent coordinator. The others wait for rank 0's end. All keep a
// journal (journal.h) in the run's directory. What the job's name contains, rank 0 does:
//
//   crash-at-7       exits with status 3 at step 7
//   crash-once-at-7  the same, in the first attempt only
//   hang-at-7        makes no step and no report from step 7 on
//   deaf             does not yield

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include "common/base/checksum.h"
#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/host_name.h"
#include "common/base/logging.h"
#include "common/rpc/client.h"
#include "proto/rpc.pb.h"
#include "tests/fake_worker/journal.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kCallTimeoutMs = 2000;
constexpr std::int64_t kPatienceMs = 10 * 60 * 1000;
constexpr std::int64_t kIdentities = 1000;

volatile std::sig_atomic_t stop_signal = 0;
const pid_t parent = getppid();

struct Options {
  std::string coordinator;
  std::string job_id;
  int attempt = 0;
  int rank = 0;
  int world_size = 1;
  int step_ms = 20;
};

// A whole number from the first of `names` that is set.
int FromEnvironment(std::initializer_list<const char*> names, int otherwise) {
  for (const char* name : names) {
    if (const char* value = std::getenv(name)) return std::atoi(value);
  }
  return otherwise;
}

// Returns early, with false, once this process is asked to end or mpirun's daemon has died.
bool Pause(int ms) {
  poll(nullptr, 0, ms);
  return stop_signal == 0 && getppid() == parent;
}

// Once Pause was false.
int ExitStatusOfStop() { return 128 + (stop_signal != 0 ? stop_signal : SIGHUP); }

// Waits for a coordinator that is away. Its errors pass.
Reply Call(RpcClient& client, const Request& request) {
  const std::int64_t give_up_ms = SteadyMillis() + kPatienceMs;
  while (true) {
    try {
      return client.Call(request, kCallTimeoutMs);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kUnavailable || SteadyMillis() > give_up_ms) throw;
      if (!Pause(200)) throw;
    }
  }
}

class Worker {
 public:
  explicit Worker(const Options& options) : options_(options), client_(options.coordinator) {}

  int Run() {
    try {
      GetAssignment();
    } catch (const Error& error) {
      // The attempt is over. If rank 0 has come to its end already, all is well.
      if (options_.rank > 0 && error.code() == ErrorCode::kFailedPrecondition) return 0;
      throw;
    }
    const fs::path directory = assignment_.run_dir();
    Journal journal(directory, options_.attempt, options_.rank);
    const fs::path mark = directory / fmt::format("fake-worker.{}.over", options_.attempt);
    const int exit_status = options_.rank == 0 ? Lead() : Follow(mark);
    if (options_.rank == 0) WriteFileUnsynced(mark, "");
    journal.Write("end");
    return exit_status;
  }

 private:
  // The step that follows `misbehaviour` in the job's name.
  std::optional<std::int64_t> StepOf(const std::string& misbehaviour) const {
    const std::string& name = assignment_.spec().name();
    const std::size_t at = name.find(misbehaviour);
    if (at == std::string::npos) return std::nullopt;
    return std::atoll(name.c_str() + at + misbehaviour.size());
  }

  // The others' part. Returns the exit status.
  static int Follow(const fs::path& mark) {
    while (!fs::exists(mark)) {
      if (!Pause(20)) return ExitStatusOfStop();
    }
    return 0;
  }

  // Rank 0's part. Returns the exit status.
  int Lead() {
    try {
      return Train();
    } catch (const Error& error) {
      spdlog::error("{}", error.what());
      return ExitCodeFor(error.code());
    }
  }

  int Train() {
    const std::int64_t last = std::max<std::int64_t>(1, assignment_.spec().train().max_steps());
    const std::int64_t every = assignment_.spec().checkpoint().every();
    const auto crash = StepOf("crash-at-");
    const auto crash_once = StepOf("crash-once-at-");
    const auto hang = StepOf("hang-at-");
    const bool deaf = assignment_.spec().name().find("deaf") != std::string::npos;
    RequestPlan();
    std::int64_t step = 0;
    if (assignment_.resume_from_size() > 0) step = assignment_.resume_from(0).step();
    std::int64_t saved = step;
    fmt::print("fake worker: attempt {}, {} ranks, from step {}\n", options_.attempt,
               options_.world_size, step);
    std::fflush(stdout);
    while (step < last) {
      if (!Pause(options_.step_ms)) return ExitStatusOfStop();
      ++step;
      if (step == crash || (step == crash_once && options_.attempt == 1)) return 3;
      while (step == hang) {
        if (!Pause(100)) return ExitStatusOfStop();
      }
      const bool save = every > 0 && step % every == 0 && step < last;
      if (save) saved = step;
      if (Report(step, save, WorkerOutcome::WORKING, "") && !deaf) {
        Report(step, step != saved, WorkerOutcome::YIELDED, "stopped at a checkpoint");
        return 0;
      }
    }
    Report(step, true, WorkerOutcome::DONE, "all steps are done");
    return 0;
  }

  void GetAssignment() {
    Request request;
    GetAssignmentRequest* body = request.mutable_get_assignment();
    body->set_job_id(options_.job_id);
    body->set_attempt(options_.attempt);
    body->set_world_size(options_.world_size);
    body->set_host(HostName());
    body->set_pid(getpid());
    assignment_ = Call(client_, request).get_assignment();
  }

  void RequestPlan() {
    Request request;
    RequestShardPlanRequest* body = request.mutable_request_shard_plan();
    body->set_job_id(options_.job_id);
    body->set_attempt(options_.attempt);
    body->set_num_identities(kIdentities);
    body->set_bytes_per_identity(1);
    for (int i = 0; i < options_.world_size; ++i) body->add_capacity_bytes(kIdentities);
    plan_ = Call(client_, request).request_shard_plan().plan();
  }

  // Whether the coordinator asks this attempt to yield.
  bool Report(std::int64_t step, bool checkpoint, WorkerOutcome outcome,
              const std::string& reason) {
    Request request;
    WorkerReportRequest* body = request.mutable_worker_report();
    body->set_job_id(options_.job_id);
    body->set_attempt(options_.attempt);
    body->set_outcome(outcome);
    body->set_reason(reason);
    MetricPoint* point = body->add_points();
    point->set_name("train/loss");
    point->set_step(step);
    point->set_value(Loss(step));
    point->set_time_ms(UnixMillis());
    body->mutable_progress()->set_step(step);
    body->mutable_progress()->set_total_steps(assignment_.spec().train().max_steps());
    body->mutable_progress()->set_loss(Loss(step));
    if (checkpoint) *body->add_checkpoints() = Checkpoint(step);
    return Call(client_, request).worker_report().yield();
  }

  // A function of the step alone: a curve without a kink is one that was continued rightly.
  static double Loss(std::int64_t step) { return 10.0 / (1.0 + static_cast<double>(step)); }

  CheckpointManifest Checkpoint(std::int64_t step) const {
    const fs::path directory =
        fs::path(assignment_.run_dir()) / "checkpoints" / fmt::format("step-{:010}", step);
    MakeDirectories(directory);
    const std::string content = fmt::format("step {}\n", step);
    WriteFileAtomically(directory / "backbone.safetensors", content);
    CheckpointManifest manifest;
    manifest.set_directory(directory.string());
    manifest.set_step(step);
    manifest.set_created_ms(UnixMillis());
    manifest.set_num_identities(plan_.num_identities());
    *manifest.mutable_plan() = plan_;
    CheckpointFile* file = manifest.add_files();
    file->set_name("backbone.safetensors");
    file->set_bytes(std::ssize(content));
    file->set_xxh3(ChecksumOf(content));
    return manifest;
  }

  const Options options_;
  RpcClient client_;
  GetAssignmentReply assignment_;
  ShardPlanProto plan_;
};

}  // namespace
}  // namespace fr

int main(int argc, char** argv) {
  CLI::App app("Stands in for fr-worker in tests.", "fr-fake-worker");
  fr::Options options;
  app.add_option("--coordinator", options.coordinator, "The coordinator's address")->required();
  app.add_option("--job-id", options.job_id, "The job")->required();
  app.add_option("--attempt", options.attempt, "Its attempt")->required();
  CLI11_PARSE(app, argc, argv);
  options.rank = fr::FromEnvironment({"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"}, 0);
  options.world_size = fr::FromEnvironment({"OMPI_COMM_WORLD_SIZE", "SLURM_NTASKS"}, 1);
  options.step_ms = fr::FromEnvironment({"FR_FAKE_STEP_MS"}, options.step_ms);
  fr::InitLogging(fmt::format("rank {}", options.rank));
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) {
    signal(number, [](int caught) { fr::stop_signal = caught; });
  }
  try {
    return fr::Worker(options).Run();
  } catch (const std::exception& error) {
    spdlog::error("{}", error.what());
    return 1;
  }
}
