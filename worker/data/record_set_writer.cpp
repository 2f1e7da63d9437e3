#include "worker/data/record_set_writer.h"

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/file.h"

namespace fr {

namespace fs = std::filesystem;

namespace {

fs::path MadeForSet(const fs::path& directory) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) {
    throw Error(ErrorCode::kIo, fmt::format("{}: {}", directory.string(), error.message()));
  }
  if (fs::exists(directory / "property")) {
    throw Error(ErrorCode::kFailedPrecondition,
                fmt::format("{}: holds a training set already; remove it, or choose another "
                            "directory",
                            directory.string()));
  }
  return directory;
}

}  // namespace

RecordSetWriter::RecordSetWriter(const fs::path& directory)
    : directory_(MadeForSet(directory)),
      records_(directory / "train.rec", directory / "train.idx") {}

void RecordSetWriter::AddIdentity(const std::vector<std::string>& images) {
  const auto label = static_cast<float>(first_keys_.size());
  first_keys_.push_back(next_key_);
  for (const std::string& image : images) {
    records_.Write(static_cast<std::uint64_t>(next_key_++), {label}, image);
  }
}

void RecordSetWriter::Finish(int height, int width) {
  const std::int64_t images_end = next_key_;
  const std::int64_t identities_end = images_end + num_identities();
  std::int64_t key = images_end;
  for (std::size_t i = 0; i < first_keys_.size(); ++i) {
    const std::int64_t end = i + 1 < first_keys_.size() ? first_keys_[i + 1] : images_end;
    records_.Write(static_cast<std::uint64_t>(key++),
                   {static_cast<float>(first_keys_[i]), static_cast<float>(end)}, "");
  }
  records_.Write(0, {static_cast<float>(images_end), static_cast<float>(identities_end)}, "");
  records_.Finish();
  WriteFileAtomically(directory_ / "property",
                      fmt::format("{},{},{}\n", num_identities(), height, width));
}

}  // namespace fr
