#pragma once
// The nodes of a round: what they have, what is free, which of them a job may use.

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "coordinator/scheduler/scheduler.h"

namespace fr::scheduling {

// What a node has, or has left: less than nothing where its configuration has shrunk below what
// runs there. What is not counted is as good as endless.
struct Amounts {
  std::int64_t slots = 0;
  std::int64_t cpus = 0;
  std::int64_t memory = 0;
  std::int64_t gpus = 0;
};

// What one worker takes besides its slot; 0: not counted.
struct Need {
  std::int64_t cpus = 0;
  std::int64_t memory = 0;
  bool gpu = false;
};

inline std::int64_t WorkersThatFit(const Amounts& free, const Need& need) {
  std::int64_t workers = free.slots;
  if (workers <= 0) return 0;
  if (need.gpu) workers = std::min(workers, free.gpus);
  if (need.cpus > 0) workers = std::min(workers, free.cpus / need.cpus);
  if (need.memory > 0) workers = std::min(workers, free.memory / need.memory);
  return std::max<std::int64_t>(workers, 0);
}

// Takes what `workers` need; gives it back where they are negative.
inline void Take(std::int64_t workers, const Need& need, Amounts* free) {
  free->slots -= workers;
  free->cpus -= workers * need.cpus;
  free->memory -= workers * need.memory;
  if (need.gpu) free->gpus -= workers;
}

inline Amounts Least(const Amounts& a, const Amounts& b) {
  return {std::min(a.slots, b.slots), std::min(a.cpus, b.cpus), std::min(a.memory, b.memory),
          std::min(a.gpus, b.gpus)};
}

// One for each node.
using Free = std::vector<Amounts>;

// The nodes that have all labels of some job, as indices, ascending.
struct NodeSet {
  std::vector<std::string> labels;
  std::vector<int> all;
  std::vector<int> open;
};

// Nodes in the order of their names, which is theirs whatever the order of the view. Refers to the
// view's nodes: they must outlive it.
class Cluster {
 public:
  explicit Cluster(const std::vector<NodeView>& nodes);

  int size() const { return static_cast<int>(nodes_.size()); }
  const NodeView& node(int index) const { return *nodes_[static_cast<std::size_t>(index)]; }
  // Groups are numbered in the order of their names; nodes without one are a group together.
  int group(int index) const { return groups_[static_cast<std::size_t>(index)]; }
  // -1: there is no such node.
  int Find(const std::string& name) const;
  // All nodes, empty.
  const Free& total() const { return total_; }
  // Stays valid as long as the cluster.
  const NodeSet* NodesWith(const std::vector<std::string>& labels);
  // How many nodes have `label`, open or not.
  std::size_t CountWith(const std::string& label) const;

 private:
  NodeSet FindNodesWith(const std::vector<std::string>& labels) const;

  std::vector<const NodeView*> nodes_;
  std::vector<int> groups_;
  Free total_;
  std::unordered_map<std::string_view, int> index_;
  std::unordered_map<std::string_view, std::vector<int>> with_label_;
  std::map<std::vector<std::string>, NodeSet> sets_;
};

}  // namespace fr::scheduling
