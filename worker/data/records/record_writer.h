#pragma once
// Writes MXNet RecordIO with image headers: train.rec and train.idx. docs/formats.md has the
// layout. Little-endian machines only, like the format's other writers.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/resumable_output.h"

namespace fr {

// Writes a .rec file and its .idx, whole or not at all: under temporary names until Finish().
class RecordWriter {
 public:
  // `more` files are written with them (output(), from number 2 on). Throws as ResumableOutput.
  RecordWriter(const std::filesystem::path& rec, const std::filesystem::path& idx,
               const ResumeOptions& resume = {}, const std::vector<ResumableFile>& more = {});

  // One label is written into the header itself (flag 0), several behind it. Throws
  // Error(kInvalidArgument) for more bytes than RecordIO holds, and as ResumableOutput.
  void Write(std::uint64_t key, const std::vector<float>& labels, std::string_view image);

  // Syncs and renames all. Throws as ResumableOutput.
  void Finish(std::int64_t place = 0) { output_.Finish(place); }

  ResumableOutput& output() { return output_; }
  const ResumableOutput& output() const { return output_; }

 private:
  void AppendPart(std::uint32_t kind, std::string_view part);

  std::filesystem::path rec_path_;
  ResumableOutput output_;
  std::string payload_;  // of the record that is being written; kept for its memory
  std::string record_;
};

}  // namespace fr
