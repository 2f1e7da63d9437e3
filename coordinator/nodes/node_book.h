#pragma once
// The nodes as they stand: configured, seen by the launcher, drained and cordoned by people and by
// their own failures.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "coordinator/launch/launcher.h"
#include "coordinator/scheduler/scheduler.h"
#include "proto/coordinator.pb.h"
#include "proto/record.pb.h"

namespace fr {

// Whether a node with these failures gets no more workers: so many of at least two jobs within the
// time. One job that fails again and again may well be to blame itself. Pure.
bool ShouldCordon(const NodeRecord& node, const CordonSpec& policy, std::int64_t now_ms);

// Records change in two steps: a method says how the record would be; Set makes it so once it is
// in the store. Not thread-safe.
class NodeBook {
 public:
  // Records of nodes that are no longer configured are ignored.
  NodeBook(const CoordinatorSpec& spec, const std::vector<NodeRecord>& records);

  // Takes in what the launcher saw. Returns whether what may be started has changed by it.
  bool Absorb(const std::vector<NodeReport>& reports);
  // `name` has just failed to answer: no worker goes there until it has been seen again.
  void Suspect(const std::string& name, std::int64_t now_ms);

  // Throw Error(kNotFound) for a name that is not configured, naming those that are.
  NodeRecord Drained(const std::string& name, const std::string& reason, std::int64_t now_ms) const;
  NodeRecord Undrained(const std::string& name) const;
  // The record with one more failure, and cordoned if that was one too many. A node that is not
  // configured: an empty record, which need not be set.
  NodeRecord Failed(const std::string& name, const NodeFailure& failure) const;

  void Set(const NodeRecord& record);

  bool IsDown(const std::string& name) const;
  std::string DownReason(const std::string& name) const;
  bool HasGpus() const;
  std::vector<NodeView> Views() const;  // in the order of the configuration
  // The same if nothing were down.
  std::vector<NodeView> WholeViews() const;

  // Each with liveness, record and capacity; what is in use is for the caller to add.
  std::vector<NodeStatus> Statuses() const;

 private:
  struct Node {
    NodeSpec spec;
    NodeReport report;
    NodeRecord record;
    std::int64_t suspect_since_ms = 0;
  };
  const Node* Find(const std::string& name) const;  // null: not configured
  Node* Find(const std::string& name);
  const Node& FindConfigured(const std::string& name) const;
  static bool IsOpen(const Node& node);
  static NodeView ViewOf(const Node& node);

  CordonSpec cordon_;
  std::vector<Node> nodes_;
  std::map<std::string, std::size_t> index_;  // by name
};

}  // namespace fr
