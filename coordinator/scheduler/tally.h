#pragma once
// Whether a job fits, kept up to date while others come and go.

#include <cstdint>
#include <vector>

#include "coordinator/scheduler/cluster.h"
#include "coordinator/scheduler/placement.h"
#include "coordinator/scheduler/queue.h"

namespace fr::scheduling {

class Tally {
 public:
  // REQUIRES: `job` outlives it.
  Tally(const Job& job, int workers, Free free)
      : need_(NeedOf(job, workers)), wanted_(workers), free_(std::move(free)) {
    usable_.resize(free_.size());
    for (const int node : job.kind->nodes->open) {
      usable_[static_cast<std::size_t>(node)] = true;
      fit_ += WorkersThatFit(free_[static_cast<std::size_t>(node)], need_);
    }
  }

  bool Fits() const { return fit_ >= wanted_; }
  std::int64_t fit() const { return fit_; }
  const Free& free() const { return free_; }

  // Whether the running job's end would matter at all.
  bool Shares(const Job& running) const {
    for (const Held& held : running.held) {
      if (usable_[static_cast<std::size_t>(held.node)]) return true;
    }
    return false;
  }

  void Release(const Job& running) {
    Count(running, -1);
    scheduling::Release(running, &free_);
    Count(running, 1);
  }

  void TakeAgain(const Job& running) {
    Count(running, -1);
    scheduling::TakeAgain(running, &free_);
    Count(running, 1);
  }

 private:
  void Count(const Job& running, int sign) {
    for (const Held& held : running.held) {
      const auto node = static_cast<std::size_t>(held.node);
      if (usable_[node]) fit_ += sign * WorkersThatFit(free_[node], need_);
    }
  }

  Need need_;
  std::int64_t wanted_;
  Free free_;
  std::vector<bool> usable_;
  std::int64_t fit_ = 0;
};

}  // namespace fr::scheduling
