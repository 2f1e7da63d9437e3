#include "coordinator/launch/slurm_node_watch.h"

#include <chrono>
#include <utility>

#include "common/base/clock.h"
#include "common/base/error.h"

namespace fr {

SlurmNodeWatch::SlurmNodeWatch(const SlurmCommands& commands, NodeSpec config,
                               std::string partition, std::int64_t poll_every_ms)
    : commands_(commands),
      config_(std::move(config)),
      partition_(std::move(partition)),
      poll_every_ms_(poll_every_ms) {
  report_.name = config_.name();
  thread_ = std::thread([this] { Watch(); });
}

SlurmNodeWatch::~SlurmNodeWatch() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  ended_.notify_all();
  thread_.join();
}

NodeReport SlurmNodeWatch::Latest() const {
  const std::lock_guard lock(mutex_);
  return report_;
}

void SlurmNodeWatch::SlurmAnswered() {
  const std::lock_guard lock(mutex_);
  answered_ms_ = SteadyMillis();
  if (report_.liveness != NodeStatus::DOWN) return;
  report_.liveness = NodeStatus::UP;
  report_.reason.clear();
  report_.seen_ms = UnixMillis();
}

void SlurmNodeWatch::Watch() {
  while (true) {
    LookOnce();
    std::unique_lock lock(mutex_);
    if (ended_.wait_for(lock, std::chrono::milliseconds(poll_every_ms_),
                        [this] { return ending_; })) {
      return;
    }
  }
}

void SlurmNodeWatch::LookOnce() {
  const std::int64_t asked_ms = SteadyMillis();
  try {
    NodeReport report = SumNodes(config_, commands_.Nodes(partition_));
    report.seen_ms = UnixMillis();
    const std::lock_guard lock(mutex_);
    report_ = std::move(report);
    answered_ms_ = SteadyMillis();
  } catch (const Error& error) {
    const std::lock_guard lock(mutex_);
    // While we waited in vain it has answered another question.
    if (answered_ms_ >= asked_ms) return;
    report_.liveness = NodeStatus::DOWN;
    report_.reason = error.what();
  }
}

}  // namespace fr
