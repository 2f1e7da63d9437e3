#include "worker/checkpoint/checkpoint_writer.h"

#include <utility>

#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/file.h"
#include "worker/backbones/run/network_state.h"
#include "worker/comm/communicator.h"
#include "worker/heads/head.h"

namespace fr {
namespace {

std::string HeadFileName(IdentityRange range) {
  return fmt::format("head-{:010}-{:010}.safetensors", range.begin, range.end);
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

}  // namespace

CheckpointWriter::CheckpointWriter(std::filesystem::path run_dir, ShardPlan plan,
                                   Communicator& comm, bool async)
    : run_dir_(std::move(run_dir)),
      plan_(std::move(plan)),
      own_comm_(async ? comm.Duplicate() : nullptr),
      comm_(async ? *own_comm_ : comm) {}

CheckpointWriter::~CheckpointWriter() {
  if (thread_.joinable()) thread_.join();
}

void CheckpointWriter::Start(CheckpointManifest manifest, const TrainingState& state) {
  const std::vector<Content> contents = ContentsOf(state);
  if (own_comm_ == nullptr) {
    Write(contents, std::move(manifest));
    return;
  }
  Copy(contents);
  done_ = false;
  thread_ = std::thread([this, manifest = std::move(manifest)]() mutable {
    try {
      Write(copy_, std::move(manifest));
    } catch (...) {
      failure_ = std::current_exception();
    }
    done_ = true;
  });
}

std::optional<WrittenCheckpoint> CheckpointWriter::Finished(bool wait) {
  if (thread_.joinable()) {
    if (!wait && !done_) return std::nullopt;
    thread_.join();
  }
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  return std::exchange(written_, std::nullopt);
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
        into = tensor.clone();
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

// One letter and a text: "+" and the rank's files, "-" and why it failed.
std::string CheckpointWriter::TryWriteOwnFiles(const std::filesystem::path& directory,
                                               const std::vector<Content>& contents,
                                               std::int64_t step) const {
  try {
    std::string text = WriteOwnFiles(directory, contents, step).SerializeAsString();
    text.insert(text.begin(), '+');
    return text;
  } catch (const std::exception& error) {
    return fmt::format("-rank {}: {}", comm_.rank(), error.what());
  }
}

void CheckpointWriter::Write(const std::vector<Content>& contents, CheckpointManifest manifest) {
  const std::int64_t began_ms = SteadyMillis();
  const std::filesystem::path directory =
      run_dir_ / kCheckpointsFolder / fmt::format("step-{:010}", manifest.step());
  const std::vector<std::string> parts =
      AgreeOnOutcome(TryWriteOwnFiles(directory, contents, manifest.step()), comm_);
  std::string outcome = "+";
  if (comm_.rank() == 0) {
    manifest.set_directory(directory.string());
    *manifest.mutable_plan() = ToProto(plan_);
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
  AgreeOnOutcome(outcome, comm_);
  if (comm_.rank() != 0) manifest.Clear();
  written_ = {std::move(manifest), static_cast<double>(SteadyMillis() - began_ms)};
}

}  // namespace fr
