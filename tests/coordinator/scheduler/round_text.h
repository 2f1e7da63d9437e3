#pragma once
// Clusters, queues and decisions as short text, for tests that read like tables.

#include <cstdint>
#include <map>
#include <string>

#include "coordinator/scheduler/scheduler.h"

namespace fr {

// A round at 1,000 h after the epoch. One line each, words after the name in any order:
//
//   nodes  "a 8"                       name and slots
//          "b 8 gpus=4 cpus=32 mem=64 group=r1 labels=x,y closed"
//   jobs   "1 x4"                      number and workers; it waits
//          "2 x4-8 prio=90 user=ada waits=2h left=1h cpus=2 gpu labels=x mem=9,8,7 fixed resizing
//             backoff=30s"             4 to 8 workers; mem: of one, with 4, 5, ... of them
//          "3 x4 @a:2,b:2 ran=1h unsaved=10m preempted=2 leaving"       it runs; @a:2[0+3]: on GPUs
//   users  "ada used=100 share=2 max=16"
//
// Waiting and running jobs have left=unknown, prio=50, and have run for an hour, where nothing is
// said. Memory is in GiB. Throws std::exception for anything else.
ClusterView ViewOf(const std::string& nodes, const std::string& jobs,
                   const std::string& users = "");

inline constexpr std::int64_t kNow = std::int64_t{1000} * 3600 * 1000;

// "1@a:4 2@b:2[0+1],c:2[0+1] | preempt 3 | resize 4 | wait 5 6", parts that are empty left out.
std::string TextOf(const Decisions& decisions);

// Of one round.
std::string Round(const std::string& nodes, const std::string& jobs,
                  const SchedulerSpec& policy = SchedulerSpec(), const std::string& users = "");

// number -> reason
std::map<std::int64_t, std::string> ReasonsOf(const Decisions& decisions);

}  // namespace fr
