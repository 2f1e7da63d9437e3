#pragma once
// Writes a training set in InsightFace's layout: train.rec, train.idx, property, and identities.txt
// where identities have names. Stopped at any instant, a writer of the same fingerprint goes on.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "worker/data/records/record_writer.h"

namespace fr {

// Labels are float32, which count exactly up to here.
inline constexpr std::int64_t kMaxIdentities = 1 << 24;

// `directory`, made if it is not there. Throws Error(kIo).
std::filesystem::path DirectoryForSet(const std::filesystem::path& directory);

// Throws Error(kFailedPrecondition), and drops what `records` was to write, if `directory` holds a
// training set already; unless this is the one, which an earlier run had completed.
void RefuseToReplaceSet(const std::filesystem::path& directory, RecordWriter* records);

// The records behind those of the images: for identity i one that names its images, keys
// [first_keys[i], first_keys[i + 1]), the last one's up to `images_end`; then record 0, which says
// where images end and identities begin. Keys beyond 2^24 are rounded there, being float32 (as in
// WebFace42M): record 0 then also has the number of identities, as a third label.
void WriteIdentityRecords(const std::vector<std::int64_t>& first_keys, std::int64_t images_end,
                          RecordWriter* records);

// "85742,112,112\n".
std::string PropertyText(std::int64_t num_identities, int height, int width);

// Images first, of one identity after the other, from 0. Whatever was added before a checkpoint
// need not, and must not, be added again by a writer that goes on: it asks place().
class RecordSetWriter {
 public:
  // `with_names`: the identities are written to identities.txt, too. Throws as DirectoryForSet,
  // RefuseToReplaceSet and ResumableOutput.
  explicit RecordSetWriter(const std::filesystem::path& directory, const ResumeOptions& resume = {},
                           bool with_names = false);

  // Whether an earlier run had written all of it: nothing is left to be done.
  bool complete() const { return output().start() == ResumableOutput::Start::kComplete; }
  // The caller's place in its input at the last checkpoint; 0 when started anew.
  std::int64_t place() const { return output().place(); }
  // As ResumableOutput.
  void TellStart(const WorkReport& report) const { output().TellStart(report); }

  // The images (JPEG or PNG) of the next identity. Throws Error(kInvalidArgument) for more than
  // kMaxIdentities, and as RecordWriter.
  void AddIdentity(const std::vector<std::string>& images, const std::string& name = "");

  // A line that the caller wants to have again when it goes on: about a picture left out.
  void AddRemark(const std::string& line);
  std::vector<std::string> Remarks();

  bool CheckpointDue() const { return output().CheckpointDue(); }
  void Checkpoint(std::int64_t place) { records_.output().Checkpoint(place); }

  // Writes the identity records and `property`, without which it is no set. Throws as
  // ResumableOutput.
  void Finish(int height, int width);

  std::int64_t num_images() const { return next_key_ - 1; }
  std::int64_t num_identities() const { return static_cast<std::int64_t>(first_keys_.size()); }

 private:
  const ResumableOutput& output() const { return records_.output(); }
  void RestoreKeys();

  RecordWriter records_;
  std::int64_t next_key_ = 1;
  std::vector<std::int64_t> first_keys_;
};

}  // namespace fr
