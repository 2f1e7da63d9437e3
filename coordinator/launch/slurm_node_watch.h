#pragma once
// Looks at Slurm's nodes again and again, in a thread of its own, so that the latest report is
// there at once.

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

#include "coordinator/launch/slurm_commands.h"

namespace fr {

class SlurmNodeWatch {
 public:
  // Looks at the nodes of `partition`, empty: Slurm's default, every `poll_every_ms`. `commands`
  // outlives it.
  SlurmNodeWatch(const SlurmCommands& commands, NodeSpec config, std::string partition,
                 std::int64_t poll_every_ms);
  // Waits for a look that is under way: as long as Slurm takes to answer.
  ~SlurmNodeWatch();
  SlurmNodeWatch(const SlurmNodeWatch&) = delete;
  SlurmNodeWatch& operator=(const SlurmNodeWatch&) = delete;

  NodeReport Latest() const;

  // Slurm has answered just now, whatever it was asked: it is not down.
  void SlurmAnswered();

 private:
  void Watch();
  void LookOnce();

  const SlurmCommands& commands_;
  const NodeSpec config_;
  const std::string partition_;
  const std::int64_t poll_every_ms_;
  mutable std::mutex mutex_;
  std::condition_variable ended_;
  bool ending_ = false;
  NodeReport report_;
  std::int64_t answered_ms_ = 0;  // SteadyMillis
  std::thread thread_;
};

}  // namespace fr
