#pragma once
// Spreads a training set over tar shards, as WebDataset reads them.

#include <cstdint>
#include <filesystem>

#include "worker/data/training_set.h"

namespace fr {

struct ShardOptions {
  std::uint64_t shard_bytes = 1ULL << 30;  // a shard ends before it would be larger
  bool shuffle = false;                    // images in random order, not in that of the set
  std::uint64_t seed = 1;                  // of that order
};

struct WrittenShards {
  std::int64_t num_shards = 0;
  std::int64_t num_images = 0;
};

// Writes `directory`/shard-000000.tar and so on, and shards.idx. Image i of the order is
// NNNNNNNNN.jpg (or png, pgm, ppm, by its bytes) beside NNNNNNNNN.cls, its identity. All of it lies
// in `directory`.partial until it is whole. Throws Error(kFailedPrecondition) if one of the two
// directories holds something, Error(kDataLoss) for an image of none of these formats, what
// TrainingSet::Read throws, and Error(kIo).
WrittenShards WriteShards(const TrainingSet& set, const std::filesystem::path& directory,
                          const ShardOptions& options);

}  // namespace fr
