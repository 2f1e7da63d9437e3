#pragma once
// Which checkpoints a job no longer needs.

#include <cstdint>
#include <vector>

#include "proto/checkpoint.pb.h"
#include "proto/job.pb.h"

namespace fr {

// `manifest` joins `checkpoints` (ascending in step), as it is to be stored: one of the same step
// that was committed before hands on its pin. Later ones leave the list: the job has gone back
// behind them, and they tell nothing about which of its checkpoints are the last. Returns the
// stored form. Pure.
const CheckpointManifest& AddCheckpoint(std::vector<CheckpointManifest>* checkpoints,
                                        const CheckpointManifest& manifest);

// Steps of those among `checkpoints` (ascending in step) that are not pinned and neither belong to
// the last `policy.keep` of those that are not, nor have the best accuracy on the set
// `policy.keep_best` (the earliest of equal ones, pinned or not). Pure.
std::vector<std::int64_t> RetiredCheckpoints(const std::vector<CheckpointManifest>& checkpoints,
                                             const CheckpointSpec& policy);

// Deletes the directories of those among `checkpoints` whose step is in `retired`; call it once
// their manifests are gone from the store. What cannot be deleted is logged and left.
void RemoveCheckpoints(const std::vector<CheckpointManifest>& checkpoints,
                       const std::vector<std::int64_t>& retired);

}  // namespace fr
