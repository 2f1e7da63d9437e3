#pragma once
// Which jobs stop at a checkpoint to make room for the first that waits.

#include <optional>
#include <vector>

#include "coordinator/scheduler/cluster.h"
#include "coordinator/scheduler/queue.h"

namespace fr::scheduling {

// What it costs to stop a job and start it again, beside what it has done since its checkpoint.
inline constexpr double kRestartSeconds = 60;

using Jobs = std::vector<Job*>;  // of the queue

// Running elastic jobs that rank below `first` and leave room enough for `workers` of it if they go
// on with fewer workers; in the order of submission. Nothing if there are none that do.
// `coming`: what is free once all have ended that have been asked to.
std::optional<Jobs> ChooseToShrink(const Job& first, int workers, const SchedulerSpec& policy,
                                   const Cluster& cluster, const Free& coming, Queue* queue);

// Running jobs whose end makes room for `workers` of `first`, and every one of them is needed for
// that. Of the lowest priority with which it can be done, then those that lose least.
std::optional<Jobs> ChooseVictims(const Job& first, int workers, const SchedulerSpec& policy,
                                  const Free& coming, Queue* queue);

// Whether it has run for as long as the policy grants each attempt, and nobody has asked it to
// stop.
bool MayBeAsked(const Job& running, const Queue& queue, const SchedulerSpec& policy);

}  // namespace fr::scheduling
