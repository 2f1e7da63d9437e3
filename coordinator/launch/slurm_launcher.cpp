#include "coordinator/launch/slurm_launcher.h"

#include <algorithm>
#include <map>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/logging.h"
#include "coordinator/launch/attempt_files.h"
#include "coordinator/launch/mpirun_command.h"
#include "coordinator/launch/slurm_commands.h"
#include "coordinator/launch/slurm_node_watch.h"
#include "coordinator/launch/slurm_text.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

constexpr const char* kScriptFile = "job.sbatch";
// So long an sbatch whose coordinator has died, or whose answer was lost, may still get through.
constexpr std::int64_t kLateSubmissionMs = 60'000;
// For so many looks workers may run on that Slurm does not know of: its nodes report to it within
// a second or two of its start, and are told to end them.
constexpr int kForgottenLooks = 5;

bool IsNumber(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
}

// Slurm's jobs are told apart by it.
fs::path AbsoluteDirectory(const fs::path& directory) {
  return fs::absolute(directory).lexically_normal();
}

// The number of the job that has claimed the attempt, where one has.
std::optional<std::string> Claimant(const fs::path& directory) {
  try {
    const std::string text = ReadFile(directory / kClaimFile);
    std::string who = text.substr(0, text.find('\n'));
    if (IsNumber(who)) return who;
  } catch (const Error&) {
    // Not there, or not to be read now: the claim is asked for in earnest before an end is
    // believed.
  }
  return std::nullopt;
}

class SlurmLauncher : public Launcher {
 public:
  SlurmLauncher(const CoordinatorSpec& spec, std::string worker)
      : spec_(spec),
        worker_(std::move(worker)),
        commands_(spec.slurm().bin_dir()),
        watch_(commands_, spec.nodes(0), spec.slurm().partition(), spec.slurm().poll_every_ms()) {}

  LaunchRecord Start(const LaunchRequest& request) override;
  std::optional<LaunchRecord> Recover(const LaunchRequest& request) override;
  std::vector<AttemptStatus> Look(const std::vector<LaunchRecord>& records) override;
  void Stop(const LaunchRecord& record, StopMode mode) override;
  std::vector<NodeReport> Nodes() override { return {watch_.Latest()}; }
  bool DealsOutMachines() const override { return false; }

 private:
  // An attempt, and the job that runs it or will.
  struct Attempt {
    fs::path directory;
    std::string number;
    bool claimed = false;
  };
  struct Answer {
    std::string handle;
    AttemptStatus status;
  };
  struct Voided {
    std::string name;
    fs::path directory;
    std::int64_t until_ms;  // SteadyMillis
  };

  bool UsesMpirun() const { return spec_.slurm().mpi() == "mpirun"; }
  SlurmScript ScriptOf(const LaunchRequest& request) const;
  std::vector<std::string> CommandOf(const LaunchRequest& request, int tasks) const;
  std::optional<LaunchRecord> RecoverVoid(const LaunchRequest& request);
  void CancelVoided();
  std::map<std::string, SlurmJob> JobsOf(const std::vector<Attempt>& attempts);
  bool IsFresh(const std::vector<LaunchRecord>& records) const;
  AttemptStatus Judge(const Attempt& attempt, const SlurmJob* job);
  AttemptStatus Ended(const Attempt& attempt, const SlurmJob* job);
  AttemptStatus Forgotten(const Attempt& attempt, AttemptStatus status);
  AttemptStatus Requeued(const Attempt& attempt) const;
  void NameFailedNodes(const SlurmJob& job, AttemptStatus* status) const;

  static Attempt AttemptOf(const LaunchRecord& record);
  static LaunchRecord RecordOf(const LaunchRequest& request, const std::string& number);

  const CoordinatorSpec spec_;
  const std::string worker_;
  const SlurmCommands commands_;
  SlurmNodeWatch watch_;
  std::vector<Voided> voided_;
  std::map<std::string, Answer> answers_;  // of the last look, by the records' directories
  std::map<std::string, int> forgotten_;   // looks that found it so, by directory
  std::int64_t looked_ms_ = 0;             // SteadyMillis
};

SlurmLauncher::Attempt SlurmLauncher::AttemptOf(const LaunchRecord& record) {
  Attempt attempt{record.directory(), record.handle()};
  // Should sbatch have submitted twice, the one that came first runs.
  if (const std::optional<std::string> number = Claimant(attempt.directory)) {
    attempt.number = *number;
    attempt.claimed = true;
  }
  return attempt;
}

LaunchRecord SlurmLauncher::RecordOf(const LaunchRequest& request, const std::string& number) {
  LaunchRecord record;
  record.set_directory(AbsoluteDirectory(request.directory).string());
  for (const NodeSlots& slots : request.slots) *record.add_slots() = slots;
  if (!number.empty()) record.set_handle(number);
  return record;
}

std::vector<std::string> SlurmLauncher::CommandOf(const LaunchRequest& request, int tasks) const {
  std::vector<std::string> command;
  if (UsesMpirun()) {
    command = {spec_.mpirun(), "-np", std::to_string(tasks), "--bind-to", "none"};
    // Open MPI refuses root unless asked; who runs the coordinator as root has decided already.
    if (geteuid() == 0) command.emplace_back("--allow-run-as-root");
    command.insert(command.end(), spec_.mpirun_args().begin(), spec_.mpirun_args().end());
  } else {
    // srun does not take the number of CPUs from sbatch any more. One worker's end is all's.
    command = {commands_.PathOf("srun"),
               "--mpi=" + spec_.slurm().mpi(),
               fmt::format("--ntasks={}", tasks),
               fmt::format("--cpus-per-task={}", request.threads_per_worker),
               "--cpu-bind=none",
               "--kill-on-bad-exit=1"};
  }
  const std::vector<std::string> worker = WorkerCommand(worker_, request);
  command.insert(command.end(), worker.begin(), worker.end());
  return command;
}

SlurmScript SlurmLauncher::ScriptOf(const LaunchRequest& request) const {
  const SlurmSpec& slurm = spec_.slurm();
  SlurmScript script;
  script.job_name = SlurmJobName(request.job_id, request.attempt);
  script.title = fmt::format("attempt {} of {}", request.attempt, request.job_id);
  script.directory = AbsoluteDirectory(request.directory);
  script.tasks = 0;
  for (const NodeSlots& slots : request.slots) script.tasks += slots.slots();
  script.cpus_per_task = request.threads_per_worker;
  script.task_bytes = request.worker_bytes;
  script.gpus = request.takes_gpus;
  script.partition = slurm.partition();
  script.account = slurm.account();
  script.sbatch_args = {slurm.sbatch_args().begin(), slurm.sbatch_args().end()};
  script.command = CommandOf(request, script.tasks);
  script.passes_sigterm_on = UsesMpirun();
  return script;
}

LaunchRecord SlurmLauncher::Start(const LaunchRequest& request) {
  const SlurmScript script = ScriptOf(request);
  MakeDirectories(script.directory);
  const fs::path path = script.directory / kScriptFile;
  WriteFileAtomically(path, ScriptText(script));
  try {
    return RecordOf(request, commands_.Submit(path.string()));
  } catch (const Error& failure) {
    // Its answer may be what was lost, and not the job.
    std::optional<LaunchRecord> started;
    try {
      started = RecoverVoid(request);
    } catch (const Error& error) {
      // Neither answers, Slurm nor the file system: a record without a handle is one that the
      // coordinator recovers later.
      spdlog::warn("{}: {}; {}", script.job_name, failure.what(), error.what());
      return RecordOf(request, "");
    }
    if (started) return *started;
    throw;
  }
}

std::optional<LaunchRecord> SlurmLauncher::Recover(const LaunchRequest& request) {
  const fs::path directory = AbsoluteDirectory(request.directory);
  if (const std::optional<std::string> number = Claimant(directory)) {
    return RecordOf(request, *number);
  }
  // Not claimed, but perhaps in the queue.
  std::vector<SlurmJob> jobs;
  try {
    jobs = commands_.JobsByName(SlurmJobName(request.job_id, request.attempt));
  } catch (const Error& error) {
    throw Error(ErrorCode::kUnavailable, error.what());
  }
  std::erase_if(jobs, [&](const SlurmJob& job) { return job.directory != directory; });
  const auto alive = std::find_if(jobs.begin(), jobs.end(), [](const SlurmJob& job) {
    return StatusOf(job).phase != AttemptPhase::kEnded;
  });
  if (alive != jobs.end()) return RecordOf(request, alive->number);
  return RecoverVoid(request);
}

// What has been started, or nothing; in that case nothing can be any more.
std::optional<LaunchRecord> SlurmLauncher::RecoverVoid(const LaunchRequest& request) {
  const fs::path directory = AbsoluteDirectory(request.directory);
  if (const std::optional<std::string> number = ClaimVoid(directory)) {
    return RecordOf(request, *number);
  }
  // A submission that comes late would do nothing, but wait for its turn and hold nodes till then.
  voided_.push_back({SlurmJobName(request.job_id, request.attempt), directory,
                     SteadyMillis() + kLateSubmissionMs});
  return std::nullopt;
}

void SlurmLauncher::CancelVoided() {
  try {
    for (const Voided& voided : voided_) {
      for (const SlurmJob& job : commands_.JobsByName(voided.name)) {
        if (job.directory != voided.directory) continue;
        if (StatusOf(job).phase != AttemptPhase::kEnded) commands_.Cancel(job.number);
      }
    }
    std::erase_if(voided_, [](const Voided& voided) { return voided.until_ms < SteadyMillis(); });
  } catch (const Error& error) {
    spdlog::debug("jobs that came late are not cancelled yet: {}", error.what());
  }
}

// Whether the last look tells how all these stand: the coordinator asks more often than Slurm's
// controller should be.
bool SlurmLauncher::IsFresh(const std::vector<LaunchRecord>& records) const {
  if (SteadyMillis() - looked_ms_ >= spec_.slurm().poll_every_ms()) return false;
  return std::all_of(records.begin(), records.end(), [this](const LaunchRecord& record) {
    const auto answer = answers_.find(record.directory());
    return answer != answers_.end() && answer->second.handle == record.handle();
  });
}

std::vector<AttemptStatus> SlurmLauncher::Look(const std::vector<LaunchRecord>& records) {
  if (!IsFresh(records)) {
    CancelVoided();
    answers_.clear();
    std::vector<Attempt> attempts;
    attempts.reserve(records.size());
    for (const LaunchRecord& record : records) attempts.push_back(AttemptOf(record));
    std::map<std::string, SlurmJob> jobs;
    std::string failure;
    try {
      jobs = JobsOf(attempts);
    } catch (const Error& error) {
      failure = error.what();
    }
    for (std::size_t i = 0; i < records.size(); ++i) {
      Answer& answer = answers_[records[i].directory()];
      answer.handle = records[i].handle();
      if (!failure.empty()) {
        answer.status = {};
        answer.status.reason = failure;
        continue;
      }
      const auto job = jobs.find(attempts[i].number);
      const bool ours = job != jobs.end() && job->second.directory == attempts[i].directory;
      answer.status = Judge(attempts[i], ours ? &job->second : nullptr);
    }
    std::erase_if(forgotten_,
                  [this](const auto& looks) { return !answers_.contains(looks.first); });
    looked_ms_ = SteadyMillis();
  }
  std::vector<AttemptStatus> statuses;
  statuses.reserve(records.size());
  for (const LaunchRecord& record : records) {
    statuses.push_back(answers_.at(record.directory()).status);
  }
  return statuses;
}

// By number. Throws Error(kUnavailable | kDataLoss).
std::map<std::string, SlurmJob> SlurmLauncher::JobsOf(const std::vector<Attempt>& attempts) {
  std::vector<std::string> numbers;
  for (const Attempt& attempt : attempts) {
    if (IsNumber(attempt.number)) numbers.push_back(attempt.number);
  }
  std::map<std::string, SlurmJob> jobs;
  if (numbers.empty()) return jobs;
  for (SlurmJob& job : commands_.JobsByNumber(numbers)) {
    std::string number = job.number;
    jobs[std::move(number)] = std::move(job);
  }
  watch_.SlurmAnswered();
  return jobs;
}

// `job`: null when Slurm does not know it (any more).
AttemptStatus SlurmLauncher::Judge(const Attempt& attempt, const SlurmJob* job) {
  if (job == nullptr) return Ended(attempt, nullptr);
  AttemptStatus status = StatusOf(*job);
  // The claim was read before Slurm was asked: it has run, and waits to run again.
  if (status.phase == AttemptPhase::kQueued && attempt.claimed) return Requeued(attempt);
  if (status.phase == AttemptPhase::kEnded) return Ended(attempt, job);
  return status;
}

AttemptStatus SlurmLauncher::Ended(const Attempt& attempt, const SlurmJob* job) {
  AttemptStatus status;
  bool forgotten = false;
  try {
    // Should Slurm bring it back, or have another of the same submission, that will do nothing.
    if (const std::optional<std::string> number = ClaimVoid(attempt.directory);
        number && *number != attempt.number) {
      status.reason = fmt::format("claimed by Slurm's job {} just now", *number);
      return status;
    } else if (job != nullptr) {
      status = StatusOf(*job);
      // A job that has run keeps the names of its nodes, but for one that is to run again.
      if (number && job->nodes.empty()) {
        forgotten = true;
        status.nodes_lost = true;
        status.reason = fmt::format("Slurm's job {} was requeued", job->number);
      }
      if (!number) {
        status.exit_status.reset();
        if (status.reason.empty()) {
          status.reason =
              fmt::format("Slurm's job {} could not begin ({})", job->number, job->reason);
        }
      }
    } else {
      status.phase = AttemptPhase::kEnded;
      status.reason = fmt::format("Slurm does not know its job {} any more", attempt.number);
      status.nodes_lost = true;
      forgotten = number.has_value();
    }
  } catch (const Error& error) {
    status = {};
    status.reason = error.what();
    return status;
  }
  if (const std::optional<int> exit_status = ExitStatus(attempt.directory)) {
    status.exit_status = exit_status;
    if (job == nullptr) {
      status.reason.clear();
      status.nodes_lost = false;
    }
  } else if (forgotten) {
    return Forgotten(attempt, status);
  }
  if (job != nullptr && status.nodes_lost) NameFailedNodes(*job, &status);
  return status;
}

// Slurm has lost what it knew of the attempt when its controller died, or was told to run it again:
// its workers may run on for a moment.
AttemptStatus SlurmLauncher::Forgotten(const Attempt& attempt, AttemptStatus status) {
  int& looks = forgotten_[attempt.directory.string()];
  if (looks < kForgottenLooks) {
    ++looks;
    status.phase = AttemptPhase::kUnknown;
    status.reason += "; its nodes are given the time to end what they may still run of it";
  }
  return status;
}

// By an administrator: Slurm itself was asked not to. An attempt runs once.
AttemptStatus SlurmLauncher::Requeued(const Attempt& attempt) const {
  AttemptStatus status;
  status.phase = AttemptPhase::kRunning;
  status.reason =
      fmt::format("Slurm's job {} was requeued; it is cancelled, to start anew", attempt.number);
  try {
    commands_.Cancel(attempt.number);
  } catch (const Error& error) {
    status.reason += fmt::format(" ({})", error.what());
  }
  return status;
}

void SlurmLauncher::NameFailedNodes(const SlurmJob& job, AttemptStatus* status) const {
  if (job.state != "NODE_FAIL" && job.state != "BOOT_FAIL") return;
  std::string names;
  try {
    for (const SlurmNode& node : commands_.NodesOf(job.nodes)) {
      if (!node.state.starts_with("down") && !node.state.starts_with("fail")) continue;
      if (std::count(status->failed_nodes.begin(), status->failed_nodes.end(), node.name) > 0) {
        continue;  // it is in several partitions
      }
      status->failed_nodes.push_back(node.name);
      names += fmt::format("{}{} ({})", names.empty() ? "" : ", ", node.name, node.reason);
    }
  } catch (const Error& error) {
    spdlog::debug("which node has failed is not known: {}", error.what());
  }
  if (!names.empty()) status->reason += ": " + names;
}

void SlurmLauncher::Stop(const LaunchRecord& record, StopMode mode) {
  looked_ms_ = 0;
  answers_.clear();
  const Attempt attempt = AttemptOf(record);
  try {
    const std::map<std::string, SlurmJob> jobs = JobsOf({attempt});
    const auto job = jobs.find(attempt.number);
    // Another's, by a number that was given twice?
    if (job == jobs.end() || job->second.directory != attempt.directory) return;
    const AttemptPhase phase = StatusOf(job->second).phase;
    if (phase == AttemptPhase::kEnded) return;
    if (mode == StopMode::kAsk && phase == AttemptPhase::kRunning) {
      // srun would kill its tasks if it got the signal itself.
      commands_.Terminate(attempt.number, UsesMpirun());
    } else {
      commands_.Cancel(attempt.number);
    }
  } catch (const Error& error) {
    spdlog::warn("Slurm's job {} cannot be ended yet: {}", attempt.number, error.what());
  }
}

}  // namespace

std::unique_ptr<Launcher> MakeSlurmLauncher(const CoordinatorSpec& spec,
                                            const std::string& worker) {
  if (spec.nodes_size() != 1) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("nodes: {} are configured; launcher slurm takes one, for the whole "
                            "cluster, such as {{name: slurm, slots: 64}}",
                            spec.nodes_size()));
  }
  return std::make_unique<SlurmLauncher>(spec, worker);
}

}  // namespace fr
