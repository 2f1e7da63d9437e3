#pragma once
// Checkpoints by identity range: any number of ranks reads what any other number wrote.
//
// <run>/checkpoints/step-0000002000/
//   backbone.safetensors          parameters and batch-norm statistics, arcface_torch's names
//   average.safetensors           their moving averages, the same names; where the job has them
//   optimizer.safetensors         the optimizer's state of the backbone's parameters, their names
//   with
//                                 ".momentum" and so on behind; what the head has beside its rows
//   head-<begin>-<end>.safetensors  weight and optimizer state of identities [begin, end)
//   manifest.json                 copy of the CheckpointManifest (Protobuf's JSON)
// The checkpoint exists once its manifest is committed to the store; see docs/checkpoints.md.
// checkpoint_writer.h writes them.

#include <filesystem>
#include <vector>

#include "common/sharding/shard_plan.h"
#include "proto/checkpoint.pb.h"
#include "worker/checkpoint/safetensors.h"

namespace fr {

class Communicator;
class Head;
class NetworkState;
class Optimizer;

inline constexpr const char* kCheckpointsFolder = "checkpoints";  // of a run
inline constexpr const char* kManifestFile = "manifest.json";     // of a checkpoint
inline constexpr const char* kBackboneFile = "backbone.safetensors";
inline constexpr const char* kAverageFile = "average.safetensors";
inline constexpr const char* kOptimizerFile = "optimizer.safetensors";

// What a checkpoint captures; nothing is owned.
struct TrainingState {
  NetworkState* backbone = nullptr;
  Optimizer* optimizer = nullptr;
  Head* head = nullptr;
  NetworkState* average = nullptr;  // of the backbone; null: the job has none
};

// What kOptimizerFile holds: views of the optimizer's state, and `head_state`.
NamedTensors OptimizerTensors(const TrainingState& state, const at::Tensor& head_state);

// Verifies sizes and checksums of the files this rank needs, and loads backbone, optimizer and
// the rows of the head's range, whichever ranks wrote them. Throws Error(kDataLoss) that names the
// file which is damaged, missing or does not fit (other network, embedding size, number of
// identities).
// Averages that the checkpoint has not begin with its weights.
void ReadCheckpoint(const CheckpointManifest& manifest, const TrainingState& state);

// ReadCheckpoint of the first of `manifests` that every rank can read; rank 0 logs what is wrong
// with those before it. Returns the one that was read. Throws Error(kDataLoss) with the first
// failure when there is none. Collective.
const CheckpointManifest& ReadNewestCheckpoint(const std::vector<CheckpointManifest>& manifests,
                                               const TrainingState& state, Communicator& comm);

// As ReadCheckpoint, the backbone alone, for a model that is used or trained on: the moving average
// where there is one, since that is what was validated.
void ReadBackbone(const CheckpointManifest& manifest, NetworkState& backbone);

// The manifest that lies in `directory`, with manifest.directory set to it: for a checkpoint that
// was moved.
CheckpointManifest ReadManifest(const std::filesystem::path& directory);

}  // namespace fr
