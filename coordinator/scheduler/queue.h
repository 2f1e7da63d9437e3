#pragma once
// The jobs of a round: made fit for arithmetic, and put in order.

#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "coordinator/scheduler/cluster.h"
#include "coordinator/scheduler/frontier.h"
#include "coordinator/scheduler/scheduler.h"

namespace fr::scheduling {

// Jobs that differ in nothing but the number of workers and their memory, and what this round has
// found out about them.
struct Kind {
  const NodeSet* nodes = nullptr;
  int cpus = 0;  // of a worker
  bool gpu = false;

  Frontier ever;   // on all nodes, if they were empty
  Frontier empty;  // on those that are open, if they were empty
  Frontier free;   // now
  Frontier spare;  // now, beside what is set aside for the first that waits
};

struct Job;

struct User {
  std::string_view name;
  double penalty = 0;    // priority that its jobs lose to the fair share
  int max_workers = 0;   // 0: no limit
  int workers = 0;       // at work now, those that have been started in this round included
  bool limited = false;  // a job of this user waits for the limit
  int set_aside = 0;     // of the limit, for `kept_for`
  std::vector<const Job*> kept_for;  // jobs of the user that others of the user must not put off
};

struct Held {
  int node = 0;
  int workers = 0;
  int gpus = 0;
};

struct Job {
  const JobView* view = nullptr;
  Kind* kind = nullptr;
  User* user = nullptr;
  int workers = 1;
  int min_workers = 1;
  // Effective priority: with ageing while it waits, without while it runs.
  double rank = 0;

  // Of a job that holds slots:
  int running = 0;         // workers at work
  std::vector<Held> held;  // on nodes that still exist
  Need taken;              // by each of them; GPUs are counted in `held`
  bool leaving = false;    // has been asked to stop, before or in this round
  bool resizing = false;   // to go on with another number of workers

  bool elastic() const { return min_workers < workers; }
};

// "job-12"
std::string JobName(const Job& job);

// Of one worker of `workers`.
Need NeedOf(const Job& job, int workers);

// The least memory that a worker needs with any number from min_workers to `most`.
std::int64_t LeastMemory(const Job& job, int most);

// Time that is still to go with so many workers; nothing if it is not known.
std::optional<double> SecondsLeft(const Job& job, int workers);

// So many workers may the job's owner still start; the job itself not counted.
int Allowance(const Job& job);

void Release(const Job& running, Free* free);
void TakeAgain(const Job& running, Free* free);

// Refers to the view, and to the cluster's node sets.
class Queue {
 public:
  Queue(const ClusterView& view, const SchedulerSpec& policy, Cluster* cluster);
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  std::vector<Job>& waiting() { return waiting_; }  // in the order of the queue
  const std::vector<Job>& waiting() const { return waiting_; }
  std::vector<Job>& running() { return running_; }  // in the order of submission
  const std::vector<Job>& running() const { return running_; }

  std::int64_t now_ms() const { return view_.now_ms; }

  // Since when `job`, the first that cannot start, has been passed over by nobody with a right to:
  // it began to wait, or a job that was before it was started.
  std::int64_t FirstSince(const Job& job) const;

 private:
  Job MakeJob(const JobView& view);
  Kind* KindOf(const JobView& view);
  User* UserOf(const std::string& name);
  double Ageing(std::int64_t since_ms, std::int64_t until_ms) const;

  const ClusterView& view_;
  const SchedulerSpec& policy_;
  Cluster* cluster_;
  double all_use_ = 0;
  std::map<std::tuple<const NodeSet*, int, bool>, Kind> kinds_;
  std::unordered_map<std::string_view, User> users_;
  std::vector<Job> waiting_;
  std::vector<Job> running_;
};

// What is free on all nodes, open or not, beside the running jobs.
Free FreeBeside(const Cluster& cluster, const std::vector<Job>& running);

}  // namespace fr::scheduling
