#pragma once
// Which checkpoints a job no longer needs.

#include <cstdint>
#include <vector>

#include "proto/checkpoint.pb.h"
#include "proto/job.pb.h"

namespace fr {

// Steps of those among `checkpoints` (ascending in step) that neither belong to the last
// `policy.keep` nor have the best accuracy on the set `policy.keep_best` (the earliest of equal
// ones). Pure.
std::vector<std::int64_t> RetiredCheckpoints(const std::vector<CheckpointManifest>& checkpoints,
                                             const CheckpointSpec& policy);

}  // namespace fr
