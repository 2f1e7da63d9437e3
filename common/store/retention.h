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

// Deletes the directories of those among `checkpoints` whose step is in `retired`; call it once
// their manifests are gone from the store. What cannot be deleted is logged and left.
void RemoveCheckpoints(const std::vector<CheckpointManifest>& checkpoints,
                       const std::vector<std::int64_t>& retired);

}  // namespace fr
