#pragma once
// Where the samples of tar shards lie, found by reading the shards' headers.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace fr {

// One picture of a shard.
struct ShardSample {
  std::uint64_t offset = 0;  // of the picture's bytes in its shard
  std::uint32_t length = 0;  // of these
  std::uint32_t label = 0;   // identity

  bool operator==(const ShardSample&) const = default;
};

struct Shard {
  std::string name;  // of the file, without its folder
  std::uint64_t size_bytes = 0;
  std::int64_t modified_ns = 0;  // since 1970, of the file when it was read
  std::vector<ShardSample> samples;

  bool operator==(const Shard&) const = default;
};

// The *.tar of `directory` in the natural order of their names, with size and time, without their
// samples. Throws Error(kNotFound) if there are none, Error(kIo).
std::vector<Shard> ListShards(const std::filesystem::path& directory);

// Fills in the samples, the headers of several shards at a time. As with WebDataset, files that
// follow one another and whose paths are the same up to the first dot of the name are one sample:
// a picture (.jpg, .jpeg, .png, .pgm, .ppm) and its label, either .cls (an integer in text) or
// .json with an integer "label" or "cls"; other files, and samples without either, are passed
// over. Throws Error(kDataLoss), naming shard, sample and byte, for a damaged archive, a sample
// with two pictures or labels, or with one but not the other, and for what is no label.
void ScanShards(const std::filesystem::path& directory, int threads, std::vector<Shard>* shards);

// The samples of one shard in memory; `file` is named in errors.
std::vector<ShardSample> ScanShard(std::string_view archive, const std::string& file);

}  // namespace fr
