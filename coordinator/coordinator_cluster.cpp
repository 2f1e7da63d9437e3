// What people ask of nodes and users, and the coordinator as a whole.

#include <algorithm>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "common/base/clock.h"
#include "coordinator/coordinator.h"
#include "coordinator/jobs/demand.h"
#include "coordinator/jobs/job_state.h"
#include "coordinator/jobs/job_view.h"

namespace fr {
namespace {

bool RunsOn(const JobRecord& record, const std::string& node) {
  return std::any_of(record.launch().slots().begin(), record.launch().slots().end(),
                     [&](const NodeSlots& slots) { return slots.node() == node; });
}

void AddUse(const JobRecord& record, const NodeSlots& slots, NodeStatus* node) {
  node->set_slots_used(node->slots_used() + slots.slots());
  node->set_gpus_used(node->gpus_used() + slots.gpus_size());
  node->set_cpus_used(node->cpus_used() +
                      slots.slots() * record.spec().resources().threads_per_worker());
  node->set_memory_reserved_bytes(
      node->memory_reserved_bytes() +
      slots.slots() * WorkerBytes(record.spec(), record.demand(), NumWorkers(record.launch())));
  node->add_job_ids(record.id());
}

void AddWaiting(const JobRecord& record, std::int64_t now_ms, QueueFigures* queue) {
  if (!WaitsForSlots(record.state())) return;
  const double seconds = static_cast<double>(now_ms - record.waiting_since_ms()) / 1000;
  ++queue->jobs;
  queue->wait_seconds += seconds;
  queue->longest_seconds = std::max(queue->longest_seconds, seconds);
}

}  // namespace

std::vector<NodeStatus> Coordinator::NodesInUse() const {
  std::vector<NodeStatus> nodes = nodes_.Statuses();
  std::map<std::string, NodeStatus*> by_name;
  for (NodeStatus& node : nodes) by_name[node.name()] = &node;
  for (const auto& [number, job] : jobs_.live()) {
    for (const NodeSlots& slots : job.record.launch().slots()) {
      const auto node = by_name.find(slots.node());
      if (node == by_name.end()) continue;  // no longer configured
      AddUse(job.record, slots, node->second);
    }
  }
  return nodes;
}

ListNodesReply Coordinator::ListNodes(const ListNodesRequest& /*request*/) {
  const std::lock_guard lock(mutex_);
  ListNodesReply reply;
  for (NodeStatus& node : NodesInUse()) *reply.add_nodes() = std::move(node);
  return reply;
}

DrainNodeReply Coordinator::DrainNode(const DrainNodeRequest& request) {
  const std::lock_guard lock(mutex_);
  const NodeRecord record = nodes_.Drained(
      request.node(), request.reason().empty() ? "drained" : request.reason(), UnixMillis());
  DrainNodeReply reply;
  ChangeSet changes;
  changes.batch.PutNode(record);
  for (auto& [number, job] : jobs_.live()) {
    if (!HoldsSlots(job.record.state()) || !RunsOn(job.record, request.node())) continue;
    reply.add_running_job_ids(job.record.id());
    if (!request.evict() || job.record.has_yield()) continue;
    AskToYield(&changes, job, Yield::EVICT,
               fmt::format("node {} is drained: {}", request.node(), record.drain_reason()));
  }
  jobs_.Commit(std::move(changes), "drain");
  nodes_.Set(record);
  queue_changed_ = true;
  return reply;
}

UndrainNodeReply Coordinator::UndrainNode(const UndrainNodeRequest& request) {
  const std::lock_guard lock(mutex_);
  const NodeRecord record = nodes_.Undrained(request.node());
  ChangeSet changes;
  changes.batch.PutNode(record);
  jobs_.Commit(std::move(changes), "undrain");
  nodes_.Set(record);
  queue_changed_ = true;
  return {};
}

std::vector<UserStatus> Coordinator::UsersInUse(std::int64_t now_ms) const {
  std::map<std::string, UserStatus> users;
  for (const std::string& name : users_.Names(now_ms)) users[name];
  for (const auto& [number, job] : jobs_.live()) {
    const JobRecord& record = job.record;
    if (IsEnded(record.state()) && !record.has_launch()) continue;
    UserStatus& user = users[record.owner()];
    user.set_workers(user.workers() + NumWorkers(record.launch()));
    if (HoldsSlots(record.state())) user.set_jobs_running(user.jobs_running() + 1);
    if (WaitsForSlots(record.state())) user.set_jobs_waiting(user.jobs_waiting() + 1);
  }
  std::vector<UserStatus> statuses;
  statuses.reserve(users.size());
  for (auto& [name, user] : users) {
    const UserLimits& limits = users_.LimitsOf(name);
    user.set_name(name);
    user.set_max_jobs(limits.max_jobs());
    user.set_max_workers(limits.max_workers());
    user.set_share(limits.share());
    user.set_slot_seconds(users_.UsedBy(name, now_ms));
    statuses.push_back(std::move(user));
  }
  return statuses;
}

ListUsersReply Coordinator::ListUsers(const ListUsersRequest& /*request*/) {
  const std::lock_guard lock(mutex_);
  ListUsersReply reply;
  for (UserStatus& user : UsersInUse(UnixMillis())) *reply.add_users() = std::move(user);
  return reply;
}

void Coordinator::FillLatest(Job& job) {
  if (job.latest) return;
  job.latest.emplace();
  for (MetricPoint& point : store_.LastPoints(job.record.number())) {
    std::string name = point.name();
    job.latest->emplace(std::move(name), std::move(point));
  }
}

Snapshot Coordinator::TakeSnapshot() {
  const std::lock_guard lock(mutex_);
  Snapshot snapshot;
  snapshot.started_ms = started_ms_;
  snapshot.nodes = NodesInUse();
  const std::int64_t now_ms = UnixMillis();
  snapshot.users = UsersInUse(now_ms);
  snapshot.jobs_by_state = jobs_.counts();
  for (auto& [number, job] : jobs_.live()) {
    AddWaiting(job.record, now_ms, &snapshot.queue);
    if (job.record.attempt() == 0) continue;
    FillLatest(job);
    JobFigures& figures = snapshot.jobs.emplace_back();
    figures.record = job.record;
    for (const auto& [name, point] : *job.latest) figures.latest.push_back(point);
  }
  return snapshot;
}

}  // namespace fr
