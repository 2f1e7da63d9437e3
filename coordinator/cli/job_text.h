#pragma once
// A job, its queue and its nodes in the words of frctl's tables. Pure.

#include <cstdint>
#include <string>
#include <vector>

#include "proto/rpc.pb.h"

namespace fr {

// "3/4": so many workers now, so many wanted; "4" once the job has ended.
std::string WorkersCell(const JobRecord& job);

// Why it does not run as it should, in one line of at most `width` characters: "#3: needs 4 slots,
// ...", "stops: job-9 needs its slots", the reason of a failure; "-" where there is nothing to say.
std::string NoteCell(const JobRecord& job, std::size_t width);

// "left", "waits", "took" and how long; "-".
std::string TimeCell(const JobRecord& job, std::int64_t now_ms);

// "node1: 2 workers (GPUs 0 and 1), node2: 1 worker"
std::string PlacementText(const LaunchRecord& launch);

// "4.2 GiB of memory a worker (6.1 GiB with 2), about 3 h with 4 workers"; empty: nothing is known.
std::string DemandText(const JobRecord& job);

// "2, since 2026-11-24 04:31:19; 1 restart of at most 3, 1 preemption"
std::string AttemptText(const JobRecord& job);

// "up", "down", "not seen yet", with "drained" and "cordoned" where it is.
std::string NodeStateCell(const NodeStatus& node);

// "8 x NVIDIA H100 80GB HBM3"; of several models, each with its number: "4 x A, 4 x B". "-": not
// known.
std::string GpuModelsCell(const NodeStatus& node);

// The reasons for that, with their age.
std::string NodeNote(const NodeStatus& node, std::int64_t now_ms);

// "3/8"; "-" for nothing of nothing.
std::string UseCell(std::int64_t used, std::int64_t total);

// The first `width` characters of UTF-8 text, the last of them an ellipsis if something is left
// out.
std::string Shortened(const std::string& text, std::size_t width);

}  // namespace fr
