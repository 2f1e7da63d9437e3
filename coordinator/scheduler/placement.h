#pragma once
// Where the workers of a job go: all of them, or none.

#include <cstdint>
#include <vector>

#include "coordinator/scheduler/cluster.h"
#include "coordinator/scheduler/queue.h"

namespace fr::scheduling {

struct Portion {
  int node = 0;
  int workers = 0;
};
using Placement = std::vector<Portion>;

// How many workers of this need fit on `nodes`; counts no further than `enough`.
std::int64_t Capacity(const std::vector<int>& nodes, const Free& free, const Need& need,
                      std::int64_t enough);

// The most workers of the job, not over `limit`, that fit on open nodes; 0 where min_workers do
// not.
int MostWorkers(const Job& job, int limit, const Free& free);
// The fewest, from min_workers on; 0 where no number up to `limit` fits. `nodes`: open or all.
int FewestWorkers(const Job& job, int limit, const std::vector<int>& nodes, const Free& free);

// On one node if one can take them, the fullest that can: large holes stay. Else within one group
// of nodes if one can, on as few nodes as possible. Else over as few groups, then nodes, as
// possible. Nodes with free GPUs are left to those who take GPUs where there is a choice. In the
// order of groups, then names. Nothing if they do not fit.
Placement Place(const Job& job, int workers, const Cluster& cluster, const Free& free);

void Take(const Job& job, int workers, const Placement& placement, Free* free);

// Takes what the job needs with the fewest workers that fit; nothing if none do.
void TakeLeast(const Job& job, const Cluster& cluster, Free* free);

// Which GPUs are in use, by number.
class GpuNumbers {
 public:
  GpuNumbers(const Cluster& cluster, const std::vector<Job>& running);
  // The lowest that are free, and are no longer.
  std::vector<int> Take(int node, int count);

 private:
  std::vector<std::vector<bool>> used_;
};

}  // namespace fr::scheduling
