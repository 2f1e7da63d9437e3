#pragma once
// Which elastic jobs stop at a checkpoint to go on with more workers.

#include <vector>

#include "coordinator/scheduler/cluster.h"
#include "coordinator/scheduler/queue.h"

namespace fr::scheduling {

struct Growth {
  Job* job = nullptr;  // of the queue
  int workers = 0;     // that it could have
};

// A job grows where its own slots and those that nobody waits for hold more workers than it has,
// and the time that is saved is at least twice what the restart costs. `spare`: what is free now
// and not set aside.
std::vector<Growth> ChooseToGrow(const SchedulerSpec& policy, const Cluster& cluster, Free free,
                                 Free spare, Queue* queue);

}  // namespace fr::scheduling
