#include "worker/checkpoint/checkpoint.h"

#include <algorithm>
#include <exception>
#include <fstream>
#include <set>

#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>

#include "common/base/checksum.h"
#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/logging.h"
#include "worker/backbones/run/network_state.h"
#include "worker/checkpoint/safetensors.h"
#include "worker/comm/communicator.h"
#include "worker/comm/first_text.h"
#include "worker/heads/head.h"
#include "worker/optim/flat_parameters.h"
#include "worker/optim/optimizer.h"

namespace fr {
namespace {

constexpr const char* kHeadState = "head.state";

std::uint64_t FileChecksum(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  std::vector<char> buffer(1 << 20);
  Checksum checksum;
  while (stream.read(buffer.data(), static_cast<std::streamsize>(buffer.size())),
         stream.gcount() > 0) {
    checksum.Update(buffer.data(), static_cast<std::size_t>(stream.gcount()));
  }
  return checksum.Value();
}

// Throws unless `file` is there and is the one that was written.
std::filesystem::path CheckFile(const CheckpointManifest& manifest, const CheckpointFile& file) {
  const std::filesystem::path path = std::filesystem::path(manifest.directory()) / file.name();
  std::error_code error;
  const auto bytes = std::filesystem::file_size(path, error);
  if (error) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: a file of the checkpoint of step {} is missing: {}", path.string(),
                            manifest.step(), error.message()));
  }
  if (static_cast<std::int64_t>(bytes) != file.bytes()) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: is {} bytes long where {} were written: the checkpoint of step {} "
                            "is damaged",
                            path.string(), bytes, file.bytes(), manifest.step()));
  }
  if (FileChecksum(path) != file.xxh3()) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: its checksum is not the one written: the checkpoint of step {} is "
                            "damaged",
                            path.string(), manifest.step()));
  }
  return path;
}

const CheckpointFile* FindFileOrNull(const CheckpointManifest& manifest, const std::string& name) {
  for (const CheckpointFile& file : manifest.files()) {
    if (file.name() == name) return &file;
  }
  return nullptr;
}

const CheckpointFile& FindFile(const CheckpointManifest& manifest, const std::string& name) {
  const CheckpointFile* file = FindFileOrNull(manifest, name);
  if (file != nullptr) return *file;
  throw Error(ErrorCode::kDataLoss,
              fmt::format("{}: the manifest names no {}", manifest.directory(), name));
}

// Copies every tensor of the file over the one of that name: the same names, the same shapes.
void LoadTensors(const CheckpointManifest& manifest, const std::string& name,
                 const NamedTensors& into) {
  const std::filesystem::path path = CheckFile(manifest, FindFile(manifest, name));
  const SafetensorsFile file(path);
  std::set<std::string> unused;
  for (const std::string& stored : file.names()) unused.insert(stored);
  const at::NoGradGuard no_grad;
  for (const auto& [key, tensor] : into) {
    const at::Tensor stored = file.Read(key);
    if (stored.sizes() != tensor.sizes()) {
      throw Error(
          ErrorCode::kDataLoss,
          fmt::format("{}: tensor '{}' has another shape than this network's", path.string(), key));
    }
    tensor.copy_(stored);
    unused.erase(key);
  }
  if (!unused.empty()) {
    throw Error(ErrorCode::kDataLoss, fmt::format("{}: tensor '{}' is none of this network's",
                                                  path.string(), *unused.begin()));
  }
}

void LoadHead(const CheckpointManifest& manifest, Head& head) {
  if (head.RowTensors().empty()) return;
  std::vector<const CheckpointFile*> files;
  for (const CheckpointFile& file : manifest.files()) {
    if (file.has_identities()) files.push_back(&file);
  }
  std::sort(files.begin(), files.end(), [](const CheckpointFile* a, const CheckpointFile* b) {
    return a->identities().begin() < b->identities().begin();
  });
  std::vector<IdentityRange> ranges;
  for (const CheckpointFile* file : files) {
    ranges.push_back({file->identities().begin(), file->identities().end()});
  }
  const at::NoGradGuard no_grad;
  for (const ShardSlice& slice : PlanReshard(ranges, head.range())) {
    const SafetensorsFile stored(CheckFile(manifest, *files[slice.source]));
    const std::int64_t stored_begin = ranges[slice.source].begin;
    for (auto& [name, tensor] : head.RowTensors()) {
      tensor.slice(0, slice.part.begin - head.range().begin, slice.part.end - head.range().begin)
          .copy_(stored.ReadRows(name, slice.part.begin - stored_begin,
                                 slice.part.end - stored_begin));
    }
  }
  head.RowsWritten();
}

// Why it failed; empty: it did not.
std::string TryReadCheckpoint(const CheckpointManifest& manifest, const TrainingState& state) {
  try {
    ReadCheckpoint(manifest, state);
    return "";
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kDataLoss && error.code() != ErrorCode::kNotFound) throw;
    return error.what();
  }
}

}  // namespace

NamedTensors OptimizerTensors(const TrainingState& state, const at::Tensor& head_state) {
  NamedTensors tensors{{kHeadState, head_state}};
  for (const auto& [name, flat] : state.optimizer->State()) {
    for (const FlatParameters::Entry& entry : state.backbone->trained().entries()) {
      tensors.emplace_back(entry.name + "." + name, FlatParameters::View(flat, entry));
    }
  }
  return tensors;
}

void ReadCheckpoint(const CheckpointManifest& manifest, const TrainingState& state) {
  LoadTensors(manifest, kBackboneFile, state.backbone->Named());
  if (state.average != nullptr) {
    const bool has_average = FindFileOrNull(manifest, kAverageFile) != nullptr;
    LoadTensors(manifest, has_average ? kAverageFile : kBackboneFile, state.average->Named());
  }
  const at::Tensor head_state = state.head->StateTensor();
  LoadTensors(manifest, kOptimizerFile, OptimizerTensors(state, head_state));
  state.head->SetState(head_state);
  LoadHead(manifest, *state.head);
}

void ReadBackbone(const CheckpointManifest& manifest, NetworkState& backbone) {
  const bool has_average = FindFileOrNull(manifest, kAverageFile) != nullptr;
  LoadTensors(manifest, has_average ? kAverageFile : kBackboneFile, backbone.Named());
}

const CheckpointManifest& ReadNewestCheckpoint(const std::vector<CheckpointManifest>& manifests,
                                               const TrainingState& state, Communicator& comm) {
  std::string first_failure = "there is no checkpoint";
  for (const CheckpointManifest& manifest : manifests) {
    const std::string failure = FirstText(TryReadCheckpoint(manifest, state), comm);
    if (failure.empty()) return manifest;
    if (&manifest == &manifests.front()) first_failure = failure;
    if (comm.rank() == 0) spdlog::error("{}", failure);
    if (comm.rank() == 0 && &manifest != &manifests.back()) {
      spdlog::warn("the checkpoint before it is tried instead");
    }
  }
  throw Error(ErrorCode::kDataLoss, first_failure);
}

CheckpointManifest ReadManifest(const std::filesystem::path& directory) {
  CheckpointManifest manifest;
  const std::filesystem::path path = directory / kManifestFile;
  const auto status = google::protobuf::util::JsonStringToMessage(ReadFile(path), &manifest);
  if (!status.ok()) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: is no checkpoint manifest: {}", path.string(), status.ToString()));
  }
  manifest.set_directory(std::filesystem::absolute(directory).string());
  return manifest;
}

}  // namespace fr
