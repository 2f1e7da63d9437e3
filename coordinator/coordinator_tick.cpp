// What the coordinator does by itself: it looks after attempts and starts what waits.

#include <algorithm>
#include <csignal>
#include <utility>

#include <fmt/format.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/logging.h"
#include "coordinator/coordinator.h"
#include "coordinator/jobs/attempt_log.h"
#include "coordinator/jobs/job_state.h"
#include "coordinator/scheduler/scheduler.h"

namespace fr {

// A coordinator that was killed between its decision to start an attempt and the note of its
// process leaves a job that is STARTING nothing. Should the process be there after all, its
// workers are refused as a former attempt's, and end.
void Coordinator::TakeOver() {
  for (auto& [number, job] : jobs_) {
    if (!HoldsSlots(job.record.state())) continue;
    if (job.record.has_launch()) {
      spdlog::info("{}: attempt {} was started by an earlier coordinator; it goes on",
                   job.record.id(), job.record.attempt());
      continue;
    }
    Change change(job);
    change.To(JobState::RESTARTING, "the coordinator ended while it started the attempt");
    Commit(std::move(change));
  }
}

void Coordinator::Tick() {
  const std::lock_guard lock(mutex_);
  for (auto& [number, job] : jobs_) {
    if (job.record.has_launch()) LookAfterAttempt(job);
  }
  StartWhatFits();
}

void Coordinator::LookAfterAttempt(Job& job) {
  const JobRecord& record = job.record;
  const bool running = launcher_.IsRunning(record.launch());
  if (!HoldsSlots(record.state())) {
    if (running) return EndLingeringAttempt(job);
    Change change(job);
    change.record.clear_launch();  // its slots are free
    Commit(std::move(change));
    job.stop_asked_ms = 0;
    return;
  }
  if (!running) {
    const std::optional<int> status = launcher_.ExitStatus(record.launch());
    Change change(job);
    change.record.clear_launch();
    RestartOrFail(&change, status ? fmt::format("the workers ended with exit status {}: {}",
                                                *status, LogTail(record.launch(), 3))
                                  : "the workers were killed");
    Commit(std::move(change));
    return;
  }
  const std::int64_t timeout_ms = record.spec().restart().stall_timeout_ms();
  if (SteadyMillis() - job.last_step_ms > timeout_ms) {
    Change change(job);
    RestartOrFail(&change, fmt::format("no step for {} s", timeout_ms / 1000));
    Commit(std::move(change));
  }
}

// The job is through with this attempt, which still has processes.
void Coordinator::EndLingeringAttempt(Job& job) {
  const JobRecord& record = job.record;
  const std::int64_t now_ms = SteadyMillis();
  if (job.stop_asked_ms == 0) {
    job.stop_asked_ms = now_ms;
    // Workers that have said that they are done end by themselves.
    if (record.state() != JobState::COMPLETED) launcher_.Signal(record.launch(), SIGTERM);
  } else if (now_ms - job.stop_asked_ms > spec_.kill_grace_ms()) {
    spdlog::warn("{}: attempt {} does not end; it is killed", record.id(), record.attempt());
    launcher_.Signal(record.launch(), SIGKILL);
  }
}

void Coordinator::RestartOrFail(Change* change, const std::string& cause) {
  JobRecord& record = change->record;
  const int max_restarts = record.spec().restart().max_restarts();
  if (record.restarts() >= max_restarts) {
    change->To(JobState::FAILED,
               max_restarts == 0
                   ? cause
                   : fmt::format("{} (and {} restarts did not help)", cause, max_restarts));
    return;
  }
  record.set_restarts(record.restarts() + 1);
  const std::int64_t delay_ms = RestartDelayMs(spec_.restart_backoff_ms(), record.restarts());
  record.set_not_before_ms(UnixMillis() + delay_ms);
  change->To(JobState::RESTARTING,
             fmt::format("{}; restart {} of {} in {} s", cause, record.restarts(), max_restarts,
                         (delay_ms + 999) / 1000));
}

std::map<std::string, NodeStatus> Coordinator::NodesInUse() const {
  std::map<std::string, NodeStatus> nodes;
  for (const NodeSpec& node : spec_.nodes()) {
    nodes[node.name()].set_name(node.name());
    nodes[node.name()].set_slots(node.slots());
    nodes[node.name()].set_slots_used(0);
  }
  for (const auto& [number, job] : jobs_) {
    for (const NodeSlots& slots : job.record.launch().slots()) {
      const auto node = nodes.find(slots.node());
      if (node == nodes.end()) continue;  // no longer configured
      node->second.set_slots_used(node->second.slots_used() + slots.slots());
      node->second.add_job_ids(job.record.id());
    }
  }
  return nodes;
}

void Coordinator::StartWhatFits() {
  std::vector<WaitingJob> queue;
  for (const auto& [number, job] : jobs_) {
    const JobRecord& record = job.record;
    if (!WaitsForSlots(record.state()) || record.has_launch()) continue;
    if (record.not_before_ms() > UnixMillis()) continue;
    queue.push_back({number, record.spec().priority(), record.spec().resources().workers()});
  }
  if (queue.empty()) return;
  std::vector<FreeNode> nodes;
  for (const auto& [name, node] : NodesInUse()) {
    nodes.push_back({name, std::max(0, node.slots() - node.slots_used()), node.slots()});
  }
  for (const Placement& placement : Schedule(std::move(queue), std::move(nodes))) {
    StartAttempt(jobs_.at(placement.number), placement.slots);
  }
}

void Coordinator::StartAttempt(Job& job, const std::vector<NodeSlots>& slots) {
  {
    Change change(job);
    change.record.set_attempt(job.record.attempt() + 1);
    change.To(JobState::STARTING, fmt::format("attempt {}", change.record.attempt()));
    Commit(std::move(change));
  }
  job.last_step_ms = SteadyMillis();
  LaunchRequest request;
  request.job_id = job.record.id();
  request.attempt = job.record.attempt();
  request.threads_per_worker = job.record.spec().resources().threads_per_worker();
  request.slots = slots;
  request.coordinator = rpc_address_;
  request.directory = AttemptDirectory(job.record, job.record.attempt());
  Change change(job);
  try {
    *change.record.mutable_launch() = launcher_.Start(request);
  } catch (const Error& error) {
    RestartOrFail(&change, error.what());
  }
  Commit(std::move(change));
}

}  // namespace fr
