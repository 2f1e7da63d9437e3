#include "coordinator/scheduler/cluster.h"

#include <iterator>
#include <limits>

namespace fr::scheduling {
namespace {

// Far from overflow whatever is taken from it.
constexpr std::int64_t kEndless = std::numeric_limits<std::int64_t>::max() / 4;

Amounts TotalOf(const NodeView& node) {
  return {node.slots, node.cpus > 0 ? node.cpus : kEndless,
          node.memory_bytes > 0 ? node.memory_bytes : kEndless, node.gpus};
}

}  // namespace

Cluster::Cluster(const std::vector<NodeView>& nodes) {
  for (const NodeView& node : nodes) nodes_.push_back(&node);
  std::stable_sort(nodes_.begin(), nodes_.end(),
                   [](const NodeView* a, const NodeView* b) { return a->name < b->name; });
  std::map<std::string_view, int> groups;
  for (const NodeView* node : nodes_) groups.emplace(node->group, 0);
  int number = 0;
  for (auto& [name, group] : groups) group = number++;
  for (int i = 0; i < size(); ++i) {
    const NodeView& view = node(i);
    groups_.push_back(groups.at(view.group));
    total_.push_back(TotalOf(view));
    index_.emplace(view.name, i);
    with_label_[view.name].push_back(i);
    for (const std::string& label : view.labels) {
      std::vector<int>& with = with_label_[label];
      if (with.empty() || with.back() != i) with.push_back(i);
    }
  }
}

int Cluster::Find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? -1 : found->second;
}

std::size_t Cluster::CountWith(const std::string& label) const {
  const auto found = with_label_.find(label);
  return found == with_label_.end() ? 0 : found->second.size();
}

const NodeSet* Cluster::NodesWith(const std::vector<std::string>& labels) {
  const auto found = sets_.find(labels);
  if (found != sets_.end()) return &found->second;
  return &sets_.emplace(labels, FindNodesWith(labels)).first->second;
}

NodeSet Cluster::FindNodesWith(const std::vector<std::string>& labels) const {
  NodeSet set;
  set.labels = labels;
  for (int i = 0; i < size(); ++i) set.all.push_back(i);
  for (const std::string& label : labels) {
    const auto with = with_label_.find(label);
    std::vector<int> both;
    if (with != with_label_.end()) {
      std::set_intersection(set.all.begin(), set.all.end(), with->second.begin(),
                            with->second.end(), std::back_inserter(both));
    }
    set.all = std::move(both);
  }
  for (const int i : set.all) {
    if (node(i).open) set.open.push_back(i);
  }
  return set;
}

}  // namespace fr::scheduling
