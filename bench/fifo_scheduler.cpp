#include "bench/fifo_scheduler.h"

#include <algorithm>
#include <map>
#include <tuple>

namespace fr {
namespace {

struct FreeNode {
  const NodeView* node = nullptr;
  int free = 0;
};

std::vector<FreeNode> FreeNodes(const ClusterView& view) {
  std::map<std::string, int> used;
  for (const JobView& job : view.jobs) {
    for (const NodeSlots& slots : job.placement) used[slots.node()] += slots.slots();
  }
  std::vector<FreeNode> nodes;
  for (const NodeView& node : view.nodes) {
    const int free = node.open ? std::max(node.slots - used[node.name], 0) : 0;
    nodes.push_back({&node, free});
  }
  return nodes;
}

std::vector<NodeSlots> Place(int workers, std::vector<FreeNode>* nodes) {
  int free = 0;
  for (const FreeNode& node : *nodes) free += node.free;
  std::vector<NodeSlots> slots;
  if (free < workers) return slots;
  std::sort(nodes->begin(), nodes->end(), [](const FreeNode& a, const FreeNode& b) {
    return std::tuple(-a.free, a.node->name) < std::tuple(-b.free, b.node->name);
  });
  for (FreeNode& node : *nodes) {
    const int taken = std::min(node.free, workers);
    if (taken == 0) break;
    node.free -= taken;
    workers -= taken;
    slots.emplace_back();
    slots.back().set_node(node.node->name);
    slots.back().set_slots(taken);
  }
  return slots;
}

}  // namespace

Decisions ScheduleFifo(const ClusterView& view) {
  std::vector<const JobView*> queue;
  for (const JobView& job : view.jobs) {
    if (job.placement.empty()) queue.push_back(&job);
  }
  std::sort(queue.begin(), queue.end(), [](const JobView* a, const JobView* b) {
    return std::tuple(-a->priority, a->number) < std::tuple(-b->priority, b->number);
  });
  int all_slots = 0;
  for (const NodeView& node : view.nodes) all_slots += node.slots;
  std::vector<FreeNode> nodes = FreeNodes(view);
  Decisions decisions;
  for (const JobView* job : queue) {
    if (job->workers > all_slots) continue;
    std::vector<NodeSlots> slots = Place(job->workers, &nodes);
    if (slots.empty()) break;
    decisions.starts.push_back({job->number, std::move(slots)});
  }
  return decisions;
}

}  // namespace fr
