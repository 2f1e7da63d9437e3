#include "worker/data/shards/tar_set.h"

#include <algorithm>

#include <fmt/format.h>

#include "common/base/error.h"
#include "worker/data/shards/shard_index.h"

namespace fr {

namespace fs = std::filesystem;

namespace {

std::vector<Shard> OneShard(const fs::path& file) {
  std::error_code error;
  const std::uint64_t size = fs::file_size(file, error);
  if (error) {
    throw Error(ErrorCode::kNotFound, fmt::format("{}: {}", file.string(), error.message()));
  }
  return {{file.filename().string(), size, 0, {}}};
}

}  // namespace

TarSet::TarSet(const fs::path& path, int threads) : path_(path) {
  std::error_code error;
  if (fs::is_directory(path, error)) {
    directory_ = path;
    shards_ = ListShards(path);
    if (!ReadShardIndex(path, &shards_)) ScanShards(path, threads, &shards_);
  } else {
    directory_ = path.parent_path();
    shards_ = OneShard(path);
    ScanShards(directory_, threads, &shards_);
  }
  std::uint64_t bytes = 0;
  first_samples_.push_back(0);
  for (const Shard& shard : shards_) {
    files_.emplace_back(directory_ / shard.name, false);
    first_bytes_.push_back(bytes);
    bytes += shard.size_bytes;
    first_samples_.push_back(first_samples_.back() + std::ssize(shard.samples));
    for (const ShardSample& sample : shard.samples) {
      num_identities_ = std::max<std::int64_t>(num_identities_, std::int64_t{sample.label} + 1);
    }
  }
  if (num_images() == 0) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: its shards hold no samples: NAME.jpg (or png) and NAME.cls, or "
                            "NAME.json with \"label\", are expected",
                            path.string()));
  }
  size_ = SizeOfFirstImage(*this);
}

std::size_t TarSet::ShardOf(std::int64_t index) const {
  const auto next = std::upper_bound(first_samples_.begin(), first_samples_.end(), index);
  return static_cast<std::size_t>(next - first_samples_.begin()) - 1;
}

const ShardSample& TarSet::SampleAt(std::int64_t index) const {
  const std::size_t shard = ShardOf(index);
  return shards_[shard].samples[static_cast<std::size_t>(index - first_samples_[shard])];
}

void TarSet::Read(std::int64_t index, Sample* sample) const {
  const ShardSample& found = SampleAt(index);
  const std::string_view shard = files_[ShardOf(index)].bytes();
  if (found.offset > shard.size() || found.length > shard.size() - found.offset) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: the shard has only {} bytes: it changed while it was opened",
                            Describe(index), shard.size()));
  }
  sample->identity = found.label;
  sample->image = shard.substr(found.offset, found.length);
}

std::string TarSet::Describe(std::int64_t index) const {
  const std::size_t shard = ShardOf(index);
  return fmt::format("{}: sample {} at byte {}", (directory_ / shards_[shard].name).string(),
                     index - first_samples_[shard], SampleAt(index).offset);
}

std::uint64_t TarSet::StoragePosition(std::int64_t index) const {
  return first_bytes_[ShardOf(index)] + SampleAt(index).offset;
}

void TarSet::Prefetch(std::int64_t first, std::int64_t last) const {
  for (std::size_t shard = ShardOf(first); shard <= ShardOf(last); ++shard) {
    const std::uint64_t begin = shard == ShardOf(first) ? SampleAt(first).offset : 0;
    const ShardSample& end = SampleAt(last);
    files_[shard].Prefetch(
        begin, shard == ShardOf(last) ? end.offset + end.length : shards_[shard].size_bytes);
  }
}

IdentityImages TarSet::ImagesByIdentity() const {
  std::vector<std::int64_t> labels;
  labels.reserve(static_cast<std::size_t>(num_images()));
  for (const Shard& shard : shards_) {
    for (const ShardSample& sample : shard.samples) labels.push_back(sample.label);
  }
  return GroupByIdentity(labels, num_identities_);
}

}  // namespace fr
