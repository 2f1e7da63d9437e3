#include "worker/data/shards/write_shards.h"

#include <cerrno>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "worker/data/images/image.h"
#include "worker/data/sample_order.h"
#include "worker/data/shards/shard_index.h"
#include "worker/data/shards/tar_writer.h"

namespace fr {

namespace fs = std::filesystem;

namespace {

std::string_view ExtensionOf(std::string_view image, const std::string& where) {
  const std::string_view extension = PictureExtension(image);
  if (!extension.empty()) return extension;
  throw Error(ErrorCode::kDataLoss, fmt::format("{}: neither JPEG nor PNG nor PGM/PPM", where));
}

// The directory in which shards are made; gone with what it holds unless it was renamed.
class PartialDirectory {
 public:
  explicit PartialDirectory(const fs::path& final_path)
      : final_(final_path), partial_(final_path.string() + ".partial") {
    std::error_code error;
    if (fs::exists(final_, error) && !fs::is_empty(final_, error)) Refuse(final_);
    if (fs::exists(partial_, error)) Refuse(partial_);
    MakeDirectories(partial_);
  }
  ~PartialDirectory() {
    std::error_code ignored;
    if (!renamed_) fs::remove_all(partial_, ignored);
  }
  PartialDirectory(const PartialDirectory&) = delete;
  PartialDirectory& operator=(const PartialDirectory&) = delete;

  const fs::path& path() const { return partial_; }

  void Rename() {
    // An empty directory is replaced.
    if (rename(partial_.c_str(), final_.c_str()) != 0) {
      throw Error(ErrorCode::kIo, fmt::format("{}: {}", final_.string(), ErrnoText()));
    }
    renamed_ = true;
    SyncDirectory(final_.has_parent_path() ? final_.parent_path() : ".");
  }

 private:
  [[noreturn]] static void Refuse(const fs::path& path) {
    throw Error(
        ErrorCode::kFailedPrecondition,
        fmt::format("{}: is there already; remove it, or choose another directory", path.string()));
  }

  fs::path final_;
  fs::path partial_;
  bool renamed_ = false;
};

// One shard after the other, each as full as it may be.
class ShardWriter {
 public:
  ShardWriter(const fs::path& directory, std::uint64_t shard_bytes)
      : directory_(directory), shard_bytes_(shard_bytes) {}

  void Add(std::string_view extension, std::string_view image, std::int64_t identity) {
    // Two headers and the padding of both.
    constexpr std::uint64_t kOverhead = 4 * std::uint64_t{512};
    if (tar_ && tar_->size_bytes() + image.size() + kOverhead > shard_bytes_) Finish();
    if (!tar_) {
      tar_ = std::make_unique<TarWriter>(directory_ /
                                         fmt::format("shard-{:06}.tar", written.num_shards++));
    }
    const std::string name = fmt::format("{:09}", written.num_images++);
    tar_->Add(fmt::format("{}{}", name, extension), image);
    tar_->Add(name + ".cls", std::to_string(identity));
  }

  void Finish() {
    if (tar_) tar_->Finish();
    tar_.reset();
  }

  WrittenShards written;

 private:
  fs::path directory_;
  std::uint64_t shard_bytes_;
  std::unique_ptr<TarWriter> tar_;
};

}  // namespace

WrittenShards WriteShards(const TrainingSet& set, const fs::path& directory,
                          const ShardOptions& options) {
  // A path that ends in a slash would put the partial directory inside.
  PartialDirectory partial(directory.has_filename() ? directory : directory.parent_path());
  ShardWriter writer(partial.path(), options.shard_bytes);
  const SampleOrder order(options.seed, 0, set.num_images());
  for (std::int64_t i = 0; i < set.num_images(); ++i) {
    const std::int64_t index = options.shuffle ? order[i] : i;
    Sample sample;
    set.Read(index, &sample);
    writer.Add(ExtensionOf(sample.image, set.Describe(index)), sample.image, sample.identity);
  }
  writer.Finish();
  std::vector<Shard> shards = ListShards(partial.path());
  ScanShards(partial.path(), 1, &shards);
  WriteShardIndex(partial.path(), shards);
  partial.Rename();
  return writer.written;
}

}  // namespace fr
