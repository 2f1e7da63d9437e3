#include "worker/model/model.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "common/base/error.h"
#include "worker/checkpoint/checkpoint.h"
#include "worker/checkpoint/safetensors.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void Refuse(const fs::path& path, const std::string& what) {
  throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: {}", path.string(), what));
}

std::unique_ptr<Model> LoadFile(const fs::path& path) {
  if (path.extension() != ".safetensors") {
    Refuse(path,
           fmt::format("is no model of ours; make one of it: fr-model import {} {}", path.string(),
                       fs::path(path.filename()).replace_extension(".safetensors").string()));
  }
  const SafetensorsFile file(path);
  if (!IsModelMetadata(file.metadata())) {
    Refuse(path, fmt::format("does not say which network it is; find it out: fr-model import {} {}",
                             path.string(), "MODEL.safetensors"));
  }
  auto model = std::make_unique<Model>(FromMetadata(file.metadata(), path.string()));
  try {
    model->state().Load(file.ReadAll(), path.string());
  } catch (const Error& error) {  // the file contradicts itself
    throw Error(ErrorCode::kDataLoss, error.what());
  }
  return model;
}

ModelInfo InfoOf(const CheckpointManifest& manifest) {
  ModelInfo info;
  info.spec.set_network(manifest.model().network());
  info.spec.set_embedding_size(manifest.model().embedding_size());
  if (manifest.model().has_output()) info.spec.set_output(manifest.model().output());
  info.spec.set_squeeze_excite(manifest.model().squeeze_excite());
  info.provenance = {{"format", "checkpoint"},
                     {"source", manifest.directory()},
                     {"step", std::to_string(manifest.step())},
                     {"identities", std::to_string(manifest.num_identities())}};
  for (const ValidationResult& result : manifest.validation()) {
    info.provenance["accuracy." + result.set()] = fmt::format("{:.5f}", result.accuracy());
  }
  return info;
}

std::unique_ptr<Model> LoadCheckpoint(const fs::path& directory) {
  const CheckpointManifest manifest = ReadManifest(directory);
  if (!manifest.has_model()) {
    Refuse(
        directory,
        fmt::format("its manifest does not say which network it is, as those of earlier versions "
                    "do not; find it out: fr-model import {} MODEL.safetensors",
                    (directory / kBackboneFile).string()));
  }
  auto model = std::make_unique<Model>(InfoOf(manifest));
  ReadBackbone(manifest, model->state());
  return model;
}

// "step-0000002000" and so on sort by step.
fs::path NewestCheckpoint(const fs::path& run) {
  std::vector<fs::path> found;
  for (const fs::directory_entry& entry : fs::directory_iterator(run / kCheckpointsFolder)) {
    if (fs::exists(entry.path() / kManifestFile)) found.push_back(entry.path());
  }
  if (found.empty()) Refuse(run, "this run has no checkpoint yet");
  return *std::max_element(found.begin(), found.end());
}

// The convolution that takes the image.
const Node& FirstConvolution(const Graph& graph) {
  const Node* first = nullptr;
  for (const Node& node : graph.nodes()) {
    if (std::find(node.inputs.begin(), node.inputs.end(), 0) == node.inputs.end()) continue;
    if (first != nullptr || node.op != Op::kConv) {
      throw Error(ErrorCode::kInternal, "the network does not begin with one convolution");
    }
    first = &node;
  }
  return *first;
}

bool SameParameters(const Graph& a, const Graph& b) {
  const std::vector<Parameter> ours = a.Parameters();
  const std::vector<Parameter> theirs = b.Parameters();
  return std::equal(ours.begin(), ours.end(), theirs.begin(), theirs.end(),
                    [](const Parameter& x, const Parameter& y) {
                      return x.name == y.name && x.shape == y.shape;
                    });
}

}  // namespace

Model::Model(ModelInfo info)
    : info_(std::move(info)), graph_(GraphOf(info_.spec)), state_(graph_) {}

std::unique_ptr<Model> LoadModel(const fs::path& path) {
  if (!fs::exists(path)) {
    throw Error(ErrorCode::kNotFound, fmt::format("{}: no such file or directory", path.string()));
  }
  if (!fs::is_directory(path)) return LoadFile(path);
  if (fs::exists(path / kManifestFile)) return LoadCheckpoint(path);
  if (fs::is_directory(path / kCheckpointsFolder)) return LoadCheckpoint(NewestCheckpoint(path));
  Refuse(path,
         "holds no model: a checkpoint has a manifest.json, a run has a directory checkpoints");
}

void SaveModel(const Model& model, const fs::path& path) {
  Metadata metadata = ToMetadata(model.info());
  metadata["format"] = "pt";
  WriteSafetensors(fs::absolute(path), model.state().Named(), metadata);
}

void ApplyPretrained(const fs::path& path, const ModelSpec& wanted, NetworkState& state) {
  const std::unique_ptr<Model> model = LoadModel(path);
  const ModelInfo& info = model->info();
  if (!SameParameters(model->graph(), GraphOf(wanted))) {
    Refuse(path, fmt::format("is a model of {}, this job trains {}: change model.network and the "
                             "keys beside it, or model.pretrained",
                             DescribeSpec(info.spec), DescribeSpec(wanted)));
  }
  constexpr Preprocessing kDefault;
  if (info.preprocessing.mean != kDefault.mean) {
    Refuse(path, fmt::format("expects pixels less {}, where training here takes {} away: it cannot "
                             "be started from",
                             info.preprocessing.mean, kDefault.mean));
  }
  const at::NoGradGuard no_grad;
  if (info.preprocessing.std != kDefault.std) {
    at::Tensor weight = model->state().Get(FirstConvolution(model->graph()).weight().name);
    weight.mul_(kDefault.std / info.preprocessing.std);
  }
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [name, tensor] : model->state().Named()) tensors[name] = tensor;
  state.Load(tensors, path.string());
}

}  // namespace fr
