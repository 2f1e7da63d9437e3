// RunLink over the RPC. One thread of its own owns the client for reports; the training loop only
// puts things into a queue.

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/host_name.h"
#include "common/base/logging.h"
#include "common/rpc/client.h"
#include "worker/telemetry/run_link.h"

namespace fr {
namespace {

constexpr std::int64_t kCallTimeoutMs = 2000;
constexpr std::int64_t kRetryMs = 500;
// Without news a report goes out all the same: from its reply a cancelled attempt learns that it is
// over.
constexpr std::int64_t kHeartbeatMs = 5000;
constexpr std::size_t kMaxPointsPerReport = 2000;
// About 1 GiB of points, months of an absent coordinator: beyond, the oldest half is thinned.
constexpr std::size_t kMaxQueuedPoints = 10'000'000;

// Calls until the coordinator answers. Errors of its own making pass; absence is waited out.
Reply CallPatiently(RpcClient& client, const Request& request, std::int64_t patience_ms) {
  const std::int64_t give_up_ms = SteadyMillis() + patience_ms;
  while (true) {
    try {
      return client.Call(request, kCallTimeoutMs);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kUnavailable || SteadyMillis() >= give_up_ms) throw;
      spdlog::warn("{}; trying again", error.what());
    }
  }
}

class CoordinatorLink : public RunLink {
 public:
  CoordinatorLink(std::string address, std::string job_id, int attempt, std::int64_t patience_ms)
      : address_(std::move(address)),
        job_id_(std::move(job_id)),
        attempt_(attempt),
        patience_ms_(patience_ms),
        client_(address_) {}

  Assignment Begin(int world_size) override {
    Request request;
    GetAssignmentRequest* body = request.mutable_get_assignment();
    body->set_job_id(job_id_);
    body->set_attempt(attempt_);
    body->set_world_size(world_size);
    body->set_host(HostName());
    body->set_pid(getpid());
    const Reply reply = CallPatiently(client_, request, patience_ms_);
    const GetAssignmentReply& given = reply.get_assignment();
    deliverer_ = std::jthread([this](const std::stop_token& stop) { Deliver(stop); });
    return {
        given.spec(), given.run_dir(), {given.resume_from().begin(), given.resume_from().end()}};
  }

  ShardPlan Plan(std::int64_t num_identities, std::int64_t bytes_per_identity,
                 const std::vector<std::int64_t>& capacity_bytes) override {
    Request request;
    RequestShardPlanRequest* body = request.mutable_request_shard_plan();
    body->set_job_id(job_id_);
    body->set_attempt(attempt_);
    body->set_num_identities(num_identities);
    body->set_bytes_per_identity(bytes_per_identity);
    for (const std::int64_t capacity : capacity_bytes) body->add_capacity_bytes(capacity);
    return FromProto(CallPatiently(client_, request, patience_ms_).request_shard_plan().plan());
  }

  void Report(const std::vector<MetricPoint>& points, const Progress& progress) override {
    const std::lock_guard lock(mutex_);
    ThrowIfOver();
    points_.insert(points_.end(), points.begin(), points.end());
    if (points_.size() > kMaxQueuedPoints) ThinOldest();
    progress_ = progress;
    changed_.notify_all();
  }

  void CommitCheckpoint(const CheckpointManifest& manifest) override {
    const std::lock_guard lock(mutex_);
    ThrowIfOver();
    checkpoints_.push_back(manifest);
    changed_.notify_all();
  }

  bool YieldAsked() override {
    const std::lock_guard lock(mutex_);
    return yield_asked_;
  }

  void Finish(WorkerOutcome outcome, const std::string& reason, std::int64_t deadline_ms) override {
    std::unique_lock lock(mutex_);
    outcome_ = outcome;
    reason_ = reason;
    changed_.notify_all();
    const bool delivered = changed_.wait_for(lock, std::chrono::milliseconds(deadline_ms),
                                             [this] { return finished_ || over_; });
    if (!finished_) ThrowIfOver();
    if (!delivered) {
      throw Error(ErrorCode::kUnavailable,
                  fmt::format("the coordinator at {} did not take the job's last report in {} s",
                              address_, deadline_ms / 1000));
    }
  }

 private:
  void ThrowIfOver() const {
    if (over_) throw Error(ErrorCode::kFailedPrecondition, *over_);
  }

  void ThinOldest() {
    spdlog::warn("{} undelivered points: every other one of the oldest half is dropped",
                 points_.size());
    std::deque<MetricPoint> kept;
    for (std::size_t i = 0; i < points_.size(); ++i) {
      if (i >= points_.size() / 2 || i % 2 == 0) kept.push_back(std::move(points_[i]));
    }
    points_ = std::move(kept);
  }

  bool HasNews() const {
    return !points_.empty() || !checkpoints_.empty() || progress_ ||
           (outcome_ != WorkerOutcome::WORKING && !finished_);
  }

  // The oldest news as one report. The last words go only when nothing is left before them.
  WorkerReportRequest NextReport() const {
    WorkerReportRequest report;
    report.set_job_id(job_id_);
    report.set_attempt(attempt_);
    const std::size_t points = std::min(points_.size(), kMaxPointsPerReport);
    for (std::size_t i = 0; i < points; ++i) *report.add_points() = points_[i];
    for (const CheckpointManifest& manifest : checkpoints_) *report.add_checkpoints() = manifest;
    if (progress_) *report.mutable_progress() = *progress_;
    if (points == points_.size()) {
      report.set_outcome(outcome_);
      report.set_reason(reason_);
    }
    return report;
  }

  // `sent` was taken, or refused for ever: it need not be sent again.
  void Forget(const WorkerReportRequest& sent) {
    points_.erase(points_.begin(), points_.begin() + sent.points_size());
    checkpoints_.erase(checkpoints_.begin(), checkpoints_.begin() + sent.checkpoints_size());
    if (sent.has_progress() && progress_ && progress_->step() == sent.progress().step()) {
      progress_.reset();
    }
    if (sent.outcome() != WorkerOutcome::WORKING) finished_ = true;
  }

  void Deliver(const std::stop_token& stop) {
    RpcClient client(address_);
    std::unique_lock lock(mutex_);
    while (!stop.stop_requested() && !over_ && !finished_) {
      changed_.wait_for(lock, stop, std::chrono::milliseconds(kHeartbeatMs),
                        [this] { return HasNews(); });
      if (stop.stop_requested()) return;
      const WorkerReportRequest report = NextReport();
      lock.unlock();
      const bool settled = Send(client, report);
      lock.lock();
      if (settled) {
        Forget(report);
        changed_.notify_all();
      } else if (!over_) {
        changed_.wait_for(lock, stop, std::chrono::milliseconds(kRetryMs), [] { return false; });
      }
    }
  }

  // Whether `report` is dealt with: taken, or refused in a way that repetition would not mend.
  bool Send(RpcClient& client, const WorkerReportRequest& report) {
    Request request;
    *request.mutable_worker_report() = report;
    try {
      const Reply reply = client.Call(std::move(request), kCallTimeoutMs);
      {
        // A pause can be taken back before the job has stopped.
        const std::lock_guard lock(mutex_);
        yield_asked_ = reply.worker_report().yield();
      }
      if (std::exchange(absent_, false)) spdlog::info("the coordinator is back");
      return true;
    } catch (const Error& error) {
      if (error.code() == ErrorCode::kUnavailable || error.code() == ErrorCode::kIo ||
          error.code() == ErrorCode::kResourceExhausted) {
        if (!std::exchange(absent_, true)) spdlog::warn("{}; training goes on", error.what());
        return false;
      }
      if (error.code() == ErrorCode::kFailedPrecondition) {
        const std::lock_guard lock(mutex_);
        over_ = error.what();
        changed_.notify_all();
        return false;
      }
      spdlog::error("the coordinator refused a report: {}", error.what());
      return true;
    }
  }

  const std::string address_;
  const std::string job_id_;
  const int attempt_;
  const std::int64_t patience_ms_;
  RpcClient client_;  // for Begin and Plan; reports have the thread's own

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<MetricPoint> points_;
  std::deque<CheckpointManifest> checkpoints_;
  std::optional<Progress> progress_;
  WorkerOutcome outcome_ = WorkerOutcome::WORKING;
  std::string reason_;
  bool finished_ = false;
  bool yield_asked_ = false;
  std::optional<std::string> over_;  // why the coordinator wants this attempt to end
  bool absent_ = false;              // of the delivering thread only
  std::jthread deliverer_;           // last: it stops before the rest goes
};

}  // namespace

std::unique_ptr<RunLink> MakeCoordinatorLink(const std::string& address, const std::string& job_id,
                                             int attempt, std::int64_t patience_ms) {
  return std::make_unique<CoordinatorLink>(address, job_id, attempt, patience_ms);
}

}  // namespace fr
