#pragma once
// The queue's decisions: which jobs start and where, which stop at a checkpoint to make room or to
// grow, and why the others wait. Pure: the same view gives the same decisions. docs/scheduling.md
// explains the policy to users.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "proto/coordinator.pb.h"
#include "proto/record.pb.h"

namespace fr {

// A node, whatever runs there.
struct NodeView {
  std::string name;
  std::string group;                // rack or switch; may be empty
  std::vector<std::string> labels;  // its name is not among them, and counts as one
  bool open = true;                 // up, neither drained nor cordoned: new workers may go there
  int slots = 0;
  int gpus = 0;                   // numbered from 0
  int cpus = 0;                   // 0: not counted
  std::int64_t memory_bytes = 0;  // 0: not counted
};

// A job that waits, or holds slots.
struct JobView {
  std::int64_t number = 0;  // order of submission
  std::string owner;
  int priority = 0;     // of the job file
  int workers = 1;      // wanted
  int min_workers = 1;  // enough; equal to `workers`: the job is not elastic
  int cpus_per_worker = 1;
  bool takes_gpus = false;  // each worker one
  std::vector<std::string> labels;
  // Memory of one worker with min_workers, min_workers + 1, ... workers; empty: not counted.
  std::vector<std::int64_t> worker_bytes;
  bool preemptible = true;
  std::int64_t waiting_since_ms = 0;  // Unix time
  std::int64_t not_before_ms = 0;     // back-off: it does not start earlier, and reserves nothing
  // It was asked to stop to be resized, and has not started again: it goes on before others take
  // its slots. Of jobs that wait, and of those that are leaving.
  bool resizing = false;
  // Predicted time that is still to go if it has all `workers`; with fewer, in proportion longer.
  std::optional<double> seconds_left;

  // Of a job that holds slots:
  std::vector<NodeSlots> placement;  // empty: it waits
  std::int64_t started_ms = 0;       // of this attempt
  double unsaved_seconds = 0;        // of training since its last checkpoint
  int preemptions = 0;               // how often it has been stopped for others
  bool leaving = false;              // has been asked to stop, or is ending: do not ask again
};

struct UserView {
  double slot_seconds = 0;  // used lately, decayed to now
  double share = 1;
  int max_workers = 0;  // 0: no limit
};

struct ClusterView {
  std::int64_t now_ms = 0;
  std::vector<NodeView> nodes;
  std::vector<JobView> jobs;              // any order
  std::map<std::string, UserView> users;  // owners that are missing: UserView()
};

struct StartDecision {
  std::int64_t number = 0;
  std::vector<NodeSlots> slots;  // none of them zero; with GPU numbers where the job takes GPUs
};

struct YieldDecision {
  std::int64_t number = 0;
  Yield::Cause cause = Yield::PREEMPT;  // or RESIZE
  std::string reason;                   // in words
};

struct WaitDecision {
  std::int64_t number = 0;
  int position = 0;                      // in the queue, from 1
  std::string reason;                    // in words: what it waits for
  std::optional<std::int64_t> start_ms;  // when it is expected to start: the first that waits, if
                                         // its blockers' ends are known
};

struct Decisions {
  std::vector<StartDecision> starts;
  std::vector<YieldDecision> yields;
  std::vector<WaitDecision> waits;  // every other waiting job, in the order of the queue
};

// One round.
Decisions Schedule(const ClusterView& view, const SchedulerSpec& policy);

// Whether `job` could ever start on these nodes if they were all open and empty: nothing if so,
// else why not, with the numbers, in words for its owner.
std::optional<std::string> WhyNever(const JobView& job, const std::vector<NodeView>& nodes);

// `slot_seconds` of `elapsed_ms` ago, as they count today.
double DecayedUse(double slot_seconds, std::int64_t elapsed_ms, std::int64_t half_life_ms);

}  // namespace fr
