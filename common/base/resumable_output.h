#pragma once
// Files that are written from front to back by a program that may be killed at any instant, and
// that goes on where it stopped when it is started again.
//
// Each file grows as NAME.partial. A checkpoint makes what was appended durable and then notes, in
// a small journal, how long each file is and how far the caller has got in its input. A later
// ResumableOutput of the same fingerprint cuts the files back to the last checkpoint and hands that
// place back; whoever then appends what follows it makes the same bytes as a run that nobody
// stopped.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/file.h"
#include "common/base/work_report.h"

namespace fr {

struct ResumableFile {
  std::filesystem::path path;
  bool keep = true;  // false: of use while the work lasts only, removed by Finish()
};

// For whoever writes by means of a ResumableOutput: the two of its options that are not the
// writer's own affair.
struct ResumeOptions {
  // Text of everything that the files depend on: inputs and options. Empty: never resumed.
  std::string fingerprint;
  // Work of about so many bytes is done again after a stop.
  std::uint64_t checkpoint_bytes = std::uint64_t{64} << 20;
};

struct ResumableOptions {
  std::filesystem::path journal;  // removed by Finish()
  std::vector<ResumableFile> files;
  ResumeOptions resume;
};

// Not thread-safe. `file` below is an index into ResumableOptions::files.
class ResumableOutput {
 public:
  enum class Start {
    kAnew,
    kAnewAsInputDiffers,  // an earlier run was stopped, but it had another fingerprint
    kResumed,
    kComplete,  // an earlier run was stopped after Finish() had begun: it is finished now
  };

  // Directories must exist. Throws Error(kFailedPrecondition) if another process writes the same
  // files now, Error(kIo).
  explicit ResumableOutput(ResumableOptions options);
  // What was appended after the last checkpoint is lost if Finish() was not called.
  ~ResumableOutput() = default;

  Start start() const { return start_; }
  // Says `start()` in words, such as "going on where an earlier run stopped"; nothing for kAnew.
  void TellStart(const WorkReport& report) const;
  // As given to the last Checkpoint() or Finish(); 0 when started anew.
  std::int64_t place() const { return place_; }

  // Throws Error(kResourceExhausted) if the disk is full, Error(kIo).
  void Append(std::size_t file, std::string_view bytes);
  // Bytes appended, those of earlier runs included.
  std::uint64_t size(std::size_t file) const { return streams_[file].size; }

  // Whether ResumeOptions::checkpoint_bytes were appended since the last one.
  bool CheckpointDue() const { return since_checkpoint_ >= options_.resume.checkpoint_bytes; }
  // Throws as Append.
  void Checkpoint(std::int64_t place);

  // The file's bytes so far. Throws as Append.
  std::string ReadBack(std::size_t file);
  // Where they lie, all of them; until Finish(). Throws as Append.
  std::filesystem::path FlushedPath(std::size_t file);

  // Makes all durable and renames the files in their order, so that the last is there only if the
  // others are. Throws as Append; nothing may be appended afterwards.
  void Finish(std::int64_t place);
  // Removes all of it, the journal too.
  void Discard() { Discard(options_); }
  // The same of an output that is not open.
  static void Discard(const ResumableOptions& options);

 private:
  struct Stream {
    FileDescriptor descriptor;
    std::string buffer;
    std::uint64_t size = 0;  // with the buffer
    bool dirty = false;      // written since it was synced
  };
  void LockJournal();
  void StartAnew();
  bool OpenPartials(const std::vector<std::uint64_t>& sizes);
  void AppendToJournal(const std::string& text);
  void NoteProgress(std::int64_t place, bool complete);
  void FlushStream(std::size_t file);
  void SyncStreams();
  void SyncDirectories() const;
  void Rename();

  ResumableOptions options_;
  FileDescriptor journal_;
  std::vector<Stream> streams_;
  std::size_t buffer_bytes_ = 0;
  std::uint64_t since_checkpoint_ = 0;
  std::int64_t place_ = 0;
  Start start_ = Start::kAnew;
};

}  // namespace fr
