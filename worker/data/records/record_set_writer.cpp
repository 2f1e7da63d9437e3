#include "worker/data/records/record_set_writer.h"

#include <sstream>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/raw_value.h"
#include "worker/data/folders/identity_names.h"
#include "worker/data/records/record_format.h"
#include "worker/data/records/record_layout.h"

namespace fr {

namespace fs = std::filesystem;

namespace {

// Numbers of the files beside train.rec and train.idx, in RecordWriter's output.
constexpr std::size_t kNames = 2;
constexpr std::size_t kCounts = 3;  // images of each identity, uint32
constexpr std::size_t kRemarks = 4;
constexpr std::size_t kProperty = 5;  // the last: with it, the directory is a set

std::vector<ResumableFile> FilesBesideRecords(const fs::path& directory, bool with_names) {
  return {{directory / kIdentityNamesFile, with_names},
          {directory / "train.counts", false},
          {directory / "train.remarks", false},
          {directory / "property", true}};
}

}  // namespace

fs::path DirectoryForSet(const fs::path& directory) {
  MakeDirectories(directory);
  return directory;
}

void RefuseToReplaceSet(const fs::path& directory, RecordWriter* records) {
  const bool complete = records->output().start() == ResumableOutput::Start::kComplete;
  if (complete || !fs::exists(directory / "property")) return;
  records->output().Discard();
  throw Error(ErrorCode::kFailedPrecondition,
              fmt::format("{}: holds a training set already; remove it, or choose another "
                          "directory",
                          directory.string()));
}

void WriteIdentityRecords(const std::vector<std::int64_t>& first_keys, std::int64_t images_end,
                          RecordWriter* records) {
  std::int64_t key = images_end;
  for (std::size_t i = 0; i < first_keys.size(); ++i) {
    const std::int64_t end = i + 1 < first_keys.size() ? first_keys[i + 1] : images_end;
    records->Write(static_cast<std::uint64_t>(key++),
                   {static_cast<float>(first_keys[i]), static_cast<float>(end)}, "");
  }
  std::vector<float> labels = {static_cast<float>(images_end), static_cast<float>(key)};
  if (key > static_cast<std::int64_t>(kExactKeys)) {
    labels.push_back(static_cast<float>(first_keys.size()));
  }
  records->Write(0, labels, "");
}

std::string PropertyText(std::int64_t num_identities, int height, int width) {
  return fmt::format("{},{},{}\n", num_identities, height, width);
}

RecordSetWriter::RecordSetWriter(const fs::path& directory, const ResumeOptions& resume,
                                 bool with_names)
    : records_(DirectoryForSet(directory) / "train.rec", directory / "train.idx", resume,
               FilesBesideRecords(directory, with_names)) {
  RefuseToReplaceSet(directory, &records_);
  if (output().start() == ResumableOutput::Start::kResumed) RestoreKeys();
}

void RecordSetWriter::RestoreKeys() {
  const std::string counts = records_.output().ReadBack(kCounts);
  for (std::size_t at = 0; at + 4 <= counts.size(); at += 4) {
    first_keys_.push_back(next_key_);
    next_key_ += LoadRaw<std::uint32_t>(counts, at);
  }
}

void RecordSetWriter::AddIdentity(const std::vector<std::string>& images, const std::string& name) {
  if (num_identities() == kMaxIdentities) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("more than {} identities: labels of train.rec are float32 and would "
                            "be rounded",
                            kMaxIdentities));
  }
  const auto label = static_cast<float>(num_identities());
  ResumableOutput& out = records_.output();
  out.Append(kNames, IdentityNameLine(num_identities(), name));
  std::string count;
  AppendRaw(&count, static_cast<std::uint32_t>(images.size()));
  out.Append(kCounts, count);
  first_keys_.push_back(next_key_);
  for (const std::string& image : images) {
    records_.Write(static_cast<std::uint64_t>(next_key_++), {label}, image);
  }
}

void RecordSetWriter::AddRemark(const std::string& line) {
  records_.output().Append(kRemarks, line + "\n");
}

std::vector<std::string> RecordSetWriter::Remarks() {
  std::vector<std::string> remarks;
  std::istringstream text(records_.output().ReadBack(kRemarks));
  for (std::string line; std::getline(text, line);) remarks.push_back(line);
  return remarks;
}

void RecordSetWriter::Finish(int height, int width) {
  WriteIdentityRecords(first_keys_, next_key_, &records_);
  records_.output().Append(kProperty, PropertyText(num_identities(), height, width));
  records_.Finish(place());
}

}  // namespace fr
