#pragma once
// Writes checkpoints, beside the training if so wished: it then stops for the copy alone.
// What is written, and how: checkpoint.h and docs/checkpoints.md.

#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/sharding/shard_plan.h"
#include "proto/checkpoint.pb.h"
#include "worker/checkpoint/checkpoint.h"
#include "worker/checkpoint/safetensors.h"

namespace fr {

class Communicator;

struct WrittenCheckpoint {
  // On rank 0: what the caller commits, with directory, plan, files, sizes and checksums; a copy
  // lies beside the tensors. Empty elsewhere.
  CheckpointManifest manifest;
  double write_ms = 0;  // without the copy
};

class CheckpointWriter {
 public:
  // Checkpoints go below `<run_dir>/checkpoints`. With `async` a thread writes, from a copy of
  // everything that this rank writes, whose memory is kept for the next one; it talks to the other
  // ranks through a communicator of its own. `comm` outlives the writer. Collective.
  CheckpointWriter(std::filesystem::path run_dir, ShardPlan plan, Communicator& comm, bool async);
  // Waits for what is being written.
  ~CheckpointWriter() = default;
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  // Writes a checkpoint of `state` as it is now, into step-<manifest.step>. REQUIRES: the one
  // before has been taken with Finished(). Collective. Without `async`, a failure on any rank
  // throws Error(kIo) on every rank, and names the rank that failed.
  void Start(CheckpointManifest manifest, const TrainingState& state);

  // The checkpoint that was started last, once; nothing when there is none, or when it is not yet
  // written and `wait` is false. Throws what Start says, on every rank that asks.
  std::optional<WrittenCheckpoint> Finished(bool wait);

 private:
  // A file that this rank writes.
  struct Content {
    std::string name;
    NamedTensors tensors;
    IdentityRange identities;  // of a head shard; else empty
  };

  std::vector<Content> ContentsOf(const TrainingState& state) const;
  void Copy(const std::vector<Content>& contents);
  WrittenCheckpoint Write(const std::vector<Content>& contents, CheckpointManifest manifest) const;
  CheckpointManifest WriteOwnFiles(const std::filesystem::path& directory,
                                   const std::vector<Content>& contents, std::int64_t step) const;

  std::filesystem::path run_dir_;
  ShardPlan plan_;
  std::unique_ptr<Communicator> own_comm_;  // the thread's
  Communicator& comm_;
  std::vector<Content> copy_;
  // Of the one that was started last, until it is taken. The last member: it waits for the thread,
  // which uses the others.
  std::future<WrittenCheckpoint> written_;
};

}  // namespace fr
