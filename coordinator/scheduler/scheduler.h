#pragma once
// Which waiting jobs start now, and where. Pure.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "proto/record.pb.h"

namespace fr {

struct FreeNode {
  std::string name;
  int free_slots = 0;
  int slots = 0;  // free or not
};

struct WaitingJob {
  std::int64_t number = 0;  // order of submission
  int priority = 0;
  int workers = 0;
};

struct Placement {
  std::int64_t number = 0;
  std::vector<NodeSlots> slots;  // workers per node, none of them zero
};

// Higher priority first, earlier submission first among equals. A job starts with all of its
// workers or not at all; the first that does not fit holds back those behind it, so that a large
// job is never starved by small ones. One that wants more than all nodes have together holds back
// nobody. Ranks fill one node after the other, the freest first, so
// that a job spans as few nodes as it can.
std::vector<Placement> Schedule(std::vector<WaitingJob> queue, std::vector<FreeNode> nodes);

}  // namespace fr
