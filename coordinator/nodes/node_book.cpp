#include "coordinator/nodes/node_book.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/logging.h"

namespace fr {
namespace {

// More tell nothing new.
constexpr int kMaxKeptFailures = 20;

std::vector<const NodeFailure*> Recent(const NodeRecord& node, const CordonSpec& policy,
                                       std::int64_t now_ms) {
  std::vector<const NodeFailure*> recent;
  for (const NodeFailure& failure : node.failures()) {
    if (failure.time_ms() >= now_ms - policy.within_ms()) recent.push_back(&failure);
  }
  return recent;
}

}  // namespace

bool ShouldCordon(const NodeRecord& node, const CordonSpec& policy, std::int64_t now_ms) {
  const std::vector<const NodeFailure*> recent = Recent(node, policy, now_ms);
  if (policy.failures() == 0 || std::ssize(recent) < policy.failures()) return false;
  std::set<std::string> jobs;
  for (const NodeFailure* failure : recent) jobs.insert(failure->job_id());
  return jobs.size() >= 2;
}

NodeBook::NodeBook(const CoordinatorSpec& spec, const std::vector<NodeRecord>& records)
    : cordon_(spec.cordon()) {
  for (const NodeSpec& configured : spec.nodes()) {
    index_.emplace(configured.name(), nodes_.size());
    Node& node = nodes_.emplace_back();
    node.spec = configured;
    node.record.set_name(configured.name());
  }
  for (const NodeRecord& record : records) Set(record);
}

const NodeBook::Node* NodeBook::Find(const std::string& name) const {
  const auto found = index_.find(name);
  return found != index_.end() ? &nodes_[found->second] : nullptr;
}

NodeBook::Node* NodeBook::Find(const std::string& name) {
  const auto found = index_.find(name);
  return found != index_.end() ? &nodes_[found->second] : nullptr;
}

const NodeBook::Node& NodeBook::FindConfigured(const std::string& name) const {
  if (const Node* node = Find(name)) return *node;
  std::vector<std::string> names;
  names.reserve(nodes_.size());
  for (const Node& node : nodes_) names.push_back(node.spec.name());
  throw Error(ErrorCode::kNotFound,
              fmt::format("there is no node '{}'; there are {}", name, fmt::join(names, ", ")));
}

bool NodeBook::Absorb(const std::vector<NodeReport>& reports) {
  bool changed = false;
  for (const NodeReport& report : reports) {
    Node* node = Find(report.name);
    if (node == nullptr) continue;
    const NodeStatus::Liveness before = node->report.liveness;
    if (report.liveness == NodeStatus::DOWN && before != NodeStatus::DOWN) {
      spdlog::warn("node {} is down: {}", report.name, report.reason);
    } else if (report.liveness == NodeStatus::UP && before == NodeStatus::DOWN) {
      spdlog::info("node {} is up again", report.name);
    }
    const bool was_open = IsOpen(*node);
    changed = changed || report.usable_slots != node->report.usable_slots;
    node->report = report;
    changed = changed || IsOpen(*node) != was_open;
  }
  return changed;
}

void NodeBook::Suspect(const std::string& name, std::int64_t now_ms) {
  if (Node* node = Find(name)) node->suspect_since_ms = now_ms;
}

NodeRecord NodeBook::Drained(const std::string& name, const std::string& reason,
                             std::int64_t now_ms) const {
  NodeRecord record = FindConfigured(name).record;
  record.set_drained(true);
  record.set_drain_reason(reason);
  record.set_drained_ms(now_ms);
  return record;
}

NodeRecord NodeBook::Undrained(const std::string& name) const {
  NodeRecord record;
  record.set_name(FindConfigured(name).spec.name());
  return record;
}

NodeRecord NodeBook::Failed(const std::string& name, const NodeFailure& failure) const {
  const Node* node = Find(name);
  if (node == nullptr) return {};
  NodeRecord record = node->record;
  *record.add_failures() = failure;
  while (record.failures_size() > kMaxKeptFailures) {
    record.mutable_failures()->DeleteSubrange(0, 1);
  }
  if (!record.cordoned() && ShouldCordon(record, cordon_, failure.time_ms())) {
    record.set_cordoned(true);
    record.set_cordoned_ms(failure.time_ms());
    record.set_cordon_reason(fmt::format("{} failures within {} min, the last of {}: {}",
                                         Recent(record, cordon_, failure.time_ms()).size(),
                                         cordon_.within_ms() / 60000, failure.job_id(),
                                         failure.reason()));
    spdlog::warn("node {} gets no more workers: {}", name, record.cordon_reason());
  }
  return record;
}

void NodeBook::Set(const NodeRecord& record) {
  if (Node* node = Find(record.name())) node->record = record;
}

bool NodeBook::IsDown(const std::string& name) const {
  const Node* node = Find(name);
  return node != nullptr && node->report.liveness == NodeStatus::DOWN;
}

std::string NodeBook::DownReason(const std::string& name) const {
  const Node* node = Find(name);
  return node != nullptr ? node->report.reason : "";
}

bool NodeBook::IsOpen(const Node& node) {
  return node.report.liveness == NodeStatus::UP && !node.record.drained() &&
         !node.record.cordoned() && node.report.seen_ms >= node.suspect_since_ms;
}

NodeView NodeBook::ViewOf(const Node& node) {
  NodeView view;
  view.name = node.spec.name();
  view.group = node.spec.group();
  view.labels.assign(node.spec.labels().begin(), node.spec.labels().end());
  view.open = IsOpen(node);
  view.slots = std::min(node.spec.slots(), node.report.usable_slots.value_or(node.spec.slots()));
  view.gpus = node.spec.has_gpus() ? node.spec.gpus() : node.report.gpus;
  view.cpus = node.spec.cpus();
  view.memory_bytes = node.spec.has_memory_gib()
                          ? static_cast<std::int64_t>(std::ldexp(node.spec.memory_gib(), 30))
                          : node.report.memory_bytes;
  return view;
}

bool NodeBook::HasGpus() const {
  return std::any_of(nodes_.begin(), nodes_.end(),
                     [](const Node& node) { return ViewOf(node).gpus > 0; });
}

std::vector<NodeView> NodeBook::Views() const {
  std::vector<NodeView> views;
  views.reserve(nodes_.size());
  for (const Node& node : nodes_) views.push_back(ViewOf(node));
  return views;
}

std::vector<NodeView> NodeBook::WholeViews() const {
  std::vector<NodeView> views = Views();
  for (std::size_t i = 0; i < views.size(); ++i) views[i].slots = nodes_[i].spec.slots();
  return views;
}

std::vector<NodeStatus> NodeBook::Statuses() const {
  std::vector<NodeStatus> statuses;
  statuses.reserve(nodes_.size());
  for (const Node& node : nodes_) {
    const NodeView view = ViewOf(node);
    NodeStatus& status = statuses.emplace_back();
    status.set_name(view.name);
    status.set_slots(view.slots);
    status.set_slots_used(0);
    status.set_liveness(node.report.liveness);
    if (!node.report.reason.empty()) status.set_liveness_reason(node.report.reason);
    *status.mutable_record() = node.record;
    status.set_gpus(view.gpus);
    // Of more than are configured, the first are those that workers get.
    for (const GpuDescription& gpu : node.report.gpu_list) {
      if (status.gpu_list_size() < view.gpus) *status.add_gpu_list() = gpu;
    }
    status.set_cpus(view.cpus);
    status.set_memory_bytes(view.memory_bytes);
    status.mutable_labels()->Assign(node.spec.labels().begin(), node.spec.labels().end());
    if (node.spec.has_group()) status.set_group(node.spec.group());
    if (node.report.seen_ms != 0) status.set_last_seen_ms(node.report.seen_ms);
  }
  return statuses;
}

}  // namespace fr
