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
#include "worker/backbones/run/network_state.h"
#include "worker/checkpoint/safetensors.h"
#include "worker/comm/communicator.h"
#include "worker/heads/head.h"
#include "worker/optim/flat_parameters.h"
#include "worker/optim/sgd.h"

namespace fr {
namespace {

constexpr const char* kOptimizerFile = "optimizer.safetensors";
constexpr const char* kHeadState = "head.state";

std::string HeadFileName(IdentityRange range) {
  return fmt::format("head-{:010}-{:010}.safetensors", range.begin, range.end);
}

// Of the backbone's optimizer, and what the head has beside its rows.
NamedTensors OptimizerTensors(const TrainingState& state, const at::Tensor& head_state) {
  NamedTensors tensors{{kHeadState, head_state}};
  for (const FlatParameters::Entry& entry : state.backbone->trained().entries()) {
    tensors.emplace_back(entry.name, FlatParameters::View(state.optimizer->momentum(), entry));
  }
  return tensors;
}

CheckpointFile WriteFile(const std::filesystem::path& directory, const std::string& name,
                         const NamedTensors& tensors, std::int64_t step) {
  const WrittenFile written = WriteSafetensors(directory / name, tensors,
                                               {{"format", "pt"}, {"step", std::to_string(step)}});
  CheckpointFile file;
  file.set_name(name);
  file.set_bytes(written.bytes);
  file.set_xxh3(written.xxh3);
  return file;
}

// The files that this rank answers for, as a manifest with only those.
CheckpointManifest WriteOwnFiles(const std::filesystem::path& directory, std::int64_t step,
                                 const TrainingState& state, int rank) {
  std::filesystem::create_directories(directory);
  CheckpointManifest part;
  if (rank == 0) {
    *part.add_files() = WriteFile(directory, kBackboneFile, state.backbone->Named(), step);
    *part.add_files() = WriteFile(directory, kOptimizerFile,
                                  OptimizerTensors(state, state.head->StateTensor()), step);
  }
  const IdentityRange range = state.head->range();
  if (range.size() > 0) {
    CheckpointFile file = WriteFile(directory, HeadFileName(range), state.head->RowTensors(), step);
    file.mutable_identities()->set_begin(range.begin);
    file.mutable_identities()->set_end(range.end);
    *part.add_files() = std::move(file);
  }
  return part;
}

// One letter and a text: "+" and the rank's files, "-" and why it failed.
std::string TryWriteOwnFiles(const std::filesystem::path& directory, std::int64_t step,
                             const TrainingState& state, int rank) {
  try {
    std::string text = WriteOwnFiles(directory, step, state, rank).SerializeAsString();
    text.insert(text.begin(), '+');
    return text;
  } catch (const std::exception& error) {
    return fmt::format("-rank {}: {}", rank, error.what());
  }
}

// Every rank learns of every rank's outcome: all go on, or all throw.
std::vector<std::string> AgreeOnOutcome(const std::string& own, Communicator& comm) {
  std::vector<std::string> all = comm.GatherBytes(own, 0);
  std::string failure;
  for (const std::string& outcome : all) {
    if (failure.empty() && outcome.starts_with('-')) failure = outcome.substr(1);
  }
  failure = comm.BroadcastBytes(failure, 0);
  if (!failure.empty()) {
    throw Error(ErrorCode::kIo, "the checkpoint could not be written: " + failure);
  }
  return all;
}

std::string ManifestJson(const CheckpointManifest& manifest) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(manifest, &json, options);
  if (!status.ok()) throw Error(ErrorCode::kInternal, "the manifest cannot be written as JSON");
  return json;
}

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

const CheckpointFile& FindFile(const CheckpointManifest& manifest, const std::string& name) {
  for (const CheckpointFile& file : manifest.files()) {
    if (file.name() == name) return file;
  }
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

}  // namespace

CheckpointManifest WriteCheckpoint(const std::filesystem::path& run_dir,
                                   CheckpointManifest manifest, const ShardPlan& plan,
                                   const TrainingState& state, Communicator& comm) {
  const std::filesystem::path directory =
      run_dir / kCheckpointsFolder / fmt::format("step-{:010}", manifest.step());
  const std::vector<std::string> parts =
      AgreeOnOutcome(TryWriteOwnFiles(directory, manifest.step(), state, comm.rank()), comm);
  std::string outcome = "+";
  if (comm.rank() == 0) {
    manifest.set_directory(directory.string());
    *manifest.mutable_plan() = ToProto(plan);
    for (const std::string& text : parts) {
      CheckpointManifest part;
      part.ParseFromString(text.substr(1));
      manifest.mutable_files()->MergeFrom(part.files());
    }
    try {
      WriteFileAtomically(directory / kManifestFile, ManifestJson(manifest));
    } catch (const std::exception& error) {
      outcome = fmt::format("-rank 0: {}", error.what());
    }
  }
  AgreeOnOutcome(outcome, comm);
  return comm.rank() == 0 ? manifest : CheckpointManifest();
}

void ReadCheckpoint(const CheckpointManifest& manifest, const TrainingState& state) {
  ReadBackbone(manifest, *state.backbone);
  const at::Tensor head_state = state.head->StateTensor();
  LoadTensors(manifest, kOptimizerFile, OptimizerTensors(state, head_state));
  state.head->SetState(head_state);
  LoadHead(manifest, *state.head);
}

void ReadBackbone(const CheckpointManifest& manifest, NetworkState& backbone) {
  LoadTensors(manifest, kBackboneFile, backbone.Named());
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
