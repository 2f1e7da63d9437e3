#include "worker/checkpoint/checkpoint_writer.h"

#include <chrono>
#include <functional>
#include <utility>

#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/file.h"
#include "worker/backbones/run/network_state.h"
#include "worker/comm/communicator.h"
#include "worker/comm/first_text.h"
#include "worker/heads/head.h"

namespace fr {
namespace {

std::string HeadFileName(IdentityRange range) {
  return fmt::format("head-{:010}-{:010}.safetensors", range.begin, range.end);
}

// What `work` throws becomes Error(kIo) on every rank: all go on, or none.
void AllOrNone(Communicator& comm, const std::function<void()>& work) {
  std::string failure;
  try {
    work();
  } catch (const std::exception& error) {
    failure = fmt::format("rank {}: {}", comm.rank(), error.what());
  }
  failure = FirstText(failure, comm);
  if (!failure.empty()) {
    throw Error(ErrorCode::kIo, "the checkpoint could not be written: " + failure);
  }
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

}  // namespace

CheckpointWriter::CheckpointWriter(std::filesystem::path run_dir, ShardPlan plan,
                                   Communicator& comm, bool async)
    : run_dir_(std::move(run_dir)),
      plan_(std::move(plan)),
      own_comm_(async ? comm.Duplicate() : nullptr),
      comm_(async ? *own_comm_ : comm) {}

void CheckpointWriter::Start(CheckpointManifest manifest, const TrainingState& state) {
  const std::vector<Content> contents = ContentsOf(state);
  if (own_comm_ == nullptr) {
    std::promise<WrittenCheckpoint> promise;
    promise.set_value(Write(contents, std::move(manifest)));
    written_ = promise.get_future();
    return;
  }
  Copy(contents);
  written_ = std::async(std::launch::async,
                        [this, manifest = std::move(manifest)] { return Write(copy_, manifest); });
}

std::optional<WrittenCheckpoint> CheckpointWriter::Finished(bool wait) {
  if (!written_.valid()) return std::nullopt;
  if (!wait && written_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
    return std::nullopt;
  }
  return written_.get();
}

// Rank 0 answers for what all ranks have alike, every rank for its part of the head.
std::vector<CheckpointWriter::Content> CheckpointWriter::ContentsOf(
    const TrainingState& state) const {
  std::vector<Content> contents;
  if (comm_.rank() == 0) {
    contents.push_back({kBackboneFile, state.backbone->Named(), {}});
    contents.push_back({kOptimizerFile, OptimizerTensors(state, state.head->StateTensor()), {}});
    if (state.average != nullptr) {
      contents.push_back({kAverageFile, state.average->Named(), {}});
    }
  }
  const IdentityRange range = state.head->range();
  const auto rows = state.head->RowTensors();
  if (!rows.empty() && range.size() > 0) contents.push_back({HeadFileName(range), rows, range});
  return contents;
}

// Into the memory of the last copy: pages that are there already make it several times as fast.
void CheckpointWriter::Copy(const std::vector<Content>& contents) {
  const at::NoGradGuard no_grad;
  copy_.resize(contents.size());
  for (std::size_t i = 0; i < contents.size(); ++i) {
    Content& copy = copy_[i];
    copy.name = contents[i].name;
    copy.identities = contents[i].identities;
    copy.tensors.resize(contents[i].tensors.size());
    for (std::size_t k = 0; k < contents[i].tensors.size(); ++k) {
      const auto& [name, tensor] = contents[i].tensors[k];
      copy.tensors[k].first = name;
      at::Tensor& into = copy.tensors[k].second;
      if (into.defined() && into.sizes() == tensor.sizes() && into.dtype() == tensor.dtype()) {
        into.copy_(tensor);
      } else {
        into = tensor.is_cpu() ? tensor.clone() : tensor.cpu();
      }
    }
  }
}

// The files that this rank answers for, as a manifest with only those.
CheckpointManifest CheckpointWriter::WriteOwnFiles(const std::filesystem::path& directory,
                                                   const std::vector<Content>& contents,
                                                   std::int64_t step) const {
  MakeDirectories(directory);
  CheckpointManifest part;
  for (const Content& content : contents) {
    const WrittenFile written =
        WriteSafetensors(directory / content.name, content.tensors,
                         {{"format", "pt"}, {"step", std::to_string(step)}});
    CheckpointFile* file = part.add_files();
    file->set_name(content.name);
    file->set_bytes(written.bytes);
    file->set_xxh3(written.xxh3);
    if (content.identities.size() == 0) continue;
    file->mutable_identities()->set_begin(content.identities.begin);
    file->mutable_identities()->set_end(content.identities.end);
  }
  return part;
}

WrittenCheckpoint CheckpointWriter::Write(const std::vector<Content>& contents,
                                          CheckpointManifest manifest) const {
  const std::int64_t began_ms = SteadyMillis();
  const std::filesystem::path directory =
      run_dir_ / kCheckpointsFolder / fmt::format("step-{:010}", manifest.step());
  CheckpointManifest own;
  AllOrNone(comm_, [&] { own = WriteOwnFiles(directory, contents, manifest.step()); });
  for (const std::string& bytes : comm_.GatherBytes(own.SerializeAsString(), 0)) {
    CheckpointManifest part;
    part.ParseFromString(bytes);
    manifest.mutable_files()->MergeFrom(part.files());
  }
  manifest.set_directory(directory.string());
  *manifest.mutable_plan() = ToProto(plan_);
  AllOrNone(comm_, [&] {
    if (comm_.rank() == 0) WriteFileAtomically(directory / kManifestFile, ManifestJson(manifest));
  });
  if (comm_.rank() != 0) manifest.Clear();
  return {std::move(manifest), static_cast<double>(SteadyMillis() - began_ms)};
}

}  // namespace fr
