#pragma once
// Why a job waits, in words for its owner.

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "coordinator/scheduler/cluster.h"
#include "coordinator/scheduler/queue.h"
#include "coordinator/scheduler/reservation.h"

namespace fr::scheduling {

enum class Hold {
  kNone,  // it has been started
  kBackOff,
  kNever,  // it fits on no nodes that there are
  kNotUp,  // nor on those that are open
  kLimit,  // its owner's
  kFirst,  // the first in the order that cannot start
  kNoRoom,
  kWouldDelay,  // the first
  kBehind,      // the first, and nothing goes before it
};

// Why it could not even start if all nodes (`open`: those that are open) were empty.
// REQUIRES: it could not.
std::string Obstacle(const Job& job, const Cluster& cluster, bool open);

// Of one round, once all that starts has been started.
class Reasons {
 public:
  // `first`: what is set aside; null: every job that could start has. `stopping`: those that have
  // been asked to.
  Reasons(const Cluster& cluster, const Free& free, std::int64_t now_ms, const Reservation* first,
          std::vector<const Job*> stopping);

  std::string Of(const Job& job, Hold hold);

 private:
  struct Room {
    std::int64_t slots = 0;  // with a GPU each, for those that take GPUs
    std::int64_t cores = 0;  // slots that have cores as well
  };
  const Room& RoomFor(const Kind& kind);
  std::string Needs(const Job& job, int workers);
  std::string OfFirst(const Job& job);
  std::string OfLimit(const Job& job) const;
  const std::string& ObstacleOf(const Job& job, bool open);

  const Cluster& cluster_;
  const Free& free_;
  std::int64_t now_ms_;
  const Reservation* first_;
  std::string first_name_;
  std::vector<const Job*> stopping_;
  std::map<const Kind*, Room> rooms_;
  std::map<std::tuple<const Kind*, bool, int, int, std::int64_t>, std::string> obstacles_;
};

}  // namespace fr::scheduling
