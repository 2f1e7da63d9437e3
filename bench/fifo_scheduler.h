#pragma once
// What this service did before it had a scheduler, and what bench_scheduler compares with: higher
// priority first, then in order of submission; all workers or none, the freest node first; the
// first job that does not fit holds back all others. Only slots are counted.

#include "coordinator/scheduler/scheduler.h"

namespace fr {

Decisions ScheduleFifo(const ClusterView& view);

}  // namespace fr
