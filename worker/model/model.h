#pragma once
// A trained network as it is used: what it is, its graph and its tensors.

#include <filesystem>
#include <memory>

#include "common/networks/graph.h"
#include "worker/backbones/run/network_state.h"
#include "worker/model/model_info.h"

namespace fr {

class Model {
 public:
  // Tensors are zero: state() takes their values.
  explicit Model(ModelInfo info);
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const ModelInfo& info() const { return info_; }
  const Graph& graph() const { return graph_; }
  const NetworkState& state() const { return state_; }
  NetworkState& state() { return state_; }

 private:
  ModelInfo info_;
  Graph graph_;
  NetworkState state_;
};

// Reads what SaveModel wrote; a checkpoint's directory; or a run's, of which the newest checkpoint
// counts. Throws Error(kNotFound); Error(kInvalidArgument) for what is none of these, saying what
// to do; Error(kDataLoss) for what is damaged.
std::unique_ptr<Model> LoadModel(const std::filesystem::path& path);

// One safetensors file: tensors under our names, which are InsightFace's, and ToMetadata's keys.
// Throws Error(kIo | kResourceExhausted).
void SaveModel(const Model& model, const std::filesystem::path& path);

// Copies the tensors of the model at `path` into `state`, that of a network as `wanted` says, which
// is trained with the default preprocessing. A model with another standard deviation becomes one of
// that: its first convolution's weights are scaled by 127.5 / std, which computes the same. Throws
// as LoadModel does, and Error(kInvalidArgument) for a model of another network or with another
// mean.
void ApplyPretrained(const std::filesystem::path& path, const ModelSpec& wanted,
                     NetworkState& state);

}  // namespace fr
