#pragma once
// Checkpoints by identity range: any number of ranks reads what any other number wrote.
//
// <run>/checkpoints/step-0000002000/
//   backbone.safetensors          parameters and batch-norm statistics, arcface_torch's names
//   optimizer.safetensors         momentum of the backbone's parameters, the same names
//   head-<begin>-<end>.safetensors  weight and momentum of identities [begin, end); none of a head
//                                 without rows
//   manifest.json                 copy of the CheckpointManifest (Protobuf's JSON)
// The checkpoint exists once its manifest is committed to the store; see docs/checkpoints.md.

#include <filesystem>

#include "common/sharding/shard_plan.h"
#include "proto/checkpoint.pb.h"

namespace fr {

class Communicator;
class Head;
class NetworkState;
class Sgd;

inline constexpr const char* kCheckpointsFolder = "checkpoints";  // of a run
inline constexpr const char* kManifestFile = "manifest.json";     // of a checkpoint
inline constexpr const char* kBackboneFile = "backbone.safetensors";

// What a checkpoint captures; nothing is owned.
struct TrainingState {
  NetworkState* backbone = nullptr;
  Sgd* optimizer = nullptr;
  Head* head = nullptr;
};

// Writes this rank's files below `<run_dir>/checkpoints/step-<manifest.step>` and returns, on rank
// 0, the manifest completed with directory, plan, files, sizes and checksums, of which a copy lies
// beside the tensors; the caller commits it. Other ranks get an empty one. Collective. A failure on
// any rank throws on every rank, and names the rank that failed.
CheckpointManifest WriteCheckpoint(const std::filesystem::path& run_dir,
                                   CheckpointManifest manifest, const ShardPlan& plan,
                                   const TrainingState& state, Communicator& comm);

// Verifies sizes and checksums of the files this rank needs, and loads backbone, optimizer and
// the rows of the head's range, whichever ranks wrote them. Throws Error(kDataLoss) that names the
// file which is damaged, missing or does not fit (other network, embedding size, number of
// identities).
void ReadCheckpoint(const CheckpointManifest& manifest, const TrainingState& state);

// As ReadCheckpoint, the backbone alone: for a model that is used or trained on.
void ReadBackbone(const CheckpointManifest& manifest, NetworkState& backbone);

// The manifest that lies in `directory`, with manifest.directory set to it: for a checkpoint that
// was moved.
CheckpointManifest ReadManifest(const std::filesystem::path& directory);

}  // namespace fr
