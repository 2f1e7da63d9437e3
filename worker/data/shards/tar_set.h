#pragma once
// A training set in tar shards, as WebDataset has them (shard_scan.h says what a sample is).

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "common/base/mapped_file.h"
#include "worker/data/shards/shard_scan.h"
#include "worker/data/training_set.h"

namespace fr {

// Samples in the natural order of the shards' names, and in that of each shard. There are as many
// identities as the largest label says, from 0.
class TarSet final : public TrainingSet {
 public:
  // `path` is a directory with *.tar, or one such file. Reads shards.idx or the headers of all
  // shards, and decodes the first picture, whose size all others must have. Throws what ListShards
  // and ScanShards throw, and Error(kDataLoss) if there are no samples or the first is broken.
  TarSet(const std::filesystem::path& path, int threads);

  std::int64_t num_images() const override { return first_samples_.back(); }
  std::int64_t num_identities() const override { return num_identities_; }
  int height() const override { return size_.height; }
  int width() const override { return size_.width; }
  const std::filesystem::path& path() const override { return path_; }
  void Read(std::int64_t index, Sample* sample) const override;
  // "faces/shard-000012.tar: sample 1234 at byte 104220", counted from 0 within the shard.
  std::string Describe(std::int64_t index) const override;
  std::uint64_t StoragePosition(std::int64_t index) const override;
  void Prefetch(std::int64_t first, std::int64_t last) const override;
  IdentityImages ImagesByIdentity() const override;

 private:
  std::size_t ShardOf(std::int64_t index) const;
  const ShardSample& SampleAt(std::int64_t index) const;

  std::filesystem::path path_;
  std::filesystem::path directory_;
  std::vector<Shard> shards_;
  std::vector<MappedFile> files_;            // of the shards
  std::vector<std::int64_t> first_samples_;  // [shards + 1]
  std::vector<std::uint64_t> first_bytes_;   // as if the shards lay one behind the other
  std::int64_t num_identities_ = 0;
  ImageSize size_;
};

}  // namespace fr
