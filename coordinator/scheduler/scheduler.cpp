#include "coordinator/scheduler/scheduler.h"

#include <algorithm>
#include <tuple>

namespace fr {
namespace {

// Takes `workers` slots off `nodes`, or nothing if there are not enough.
std::vector<NodeSlots> Place(int workers, std::vector<FreeNode>* nodes) {
  int free = 0;
  for (const FreeNode& node : *nodes) free += node.free_slots;
  std::vector<NodeSlots> slots;
  if (free < workers) return slots;
  std::stable_sort(nodes->begin(), nodes->end(), [](const FreeNode& a, const FreeNode& b) {
    return a.free_slots > b.free_slots;
  });
  for (FreeNode& node : *nodes) {
    const int taken = std::min(node.free_slots, workers);
    if (taken == 0) break;
    node.free_slots -= taken;
    workers -= taken;
    slots.emplace_back();
    slots.back().set_node(node.name);
    slots.back().set_slots(taken);
  }
  return slots;
}

}  // namespace

std::vector<Placement> Schedule(std::vector<WaitingJob> queue, std::vector<FreeNode> nodes) {
  std::sort(queue.begin(), queue.end(), [](const WaitingJob& a, const WaitingJob& b) {
    return std::tuple(-a.priority, a.number) < std::tuple(-b.priority, b.number);
  });
  int all_slots = 0;
  for (const FreeNode& node : nodes) all_slots += node.slots;
  std::vector<Placement> placements;
  for (const WaitingJob& job : queue) {
    if (job.workers > all_slots) continue;
    std::vector<NodeSlots> slots = Place(job.workers, &nodes);
    if (slots.empty()) break;
    placements.push_back({job.number, std::move(slots)});
  }
  return placements;
}

}  // namespace fr
