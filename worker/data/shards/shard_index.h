#pragma once
// shards.idx, beside tar shards: what reading their headers found, so that a set is opened at once.
// docs/formats.md has its layout. Little-endian machines only.

#include <filesystem>
#include <string_view>
#include <vector>

#include "worker/data/shards/shard_scan.h"

namespace fr {

// Writes DIRECTORY/shards.idx, whole or not at all. Throws Error(kIo).
void WriteShardIndex(const std::filesystem::path& directory, const std::vector<Shard>& shards);

// Parses shards.idx; `path` is named in errors. Throws Error(kDataLoss) for anything but a whole
// file of this layout, and for samples beyond the size of their shard.
std::vector<Shard> ParseShardIndex(std::string_view bytes, const std::filesystem::path& path);

// Fills in the samples of `shards` from DIRECTORY/shards.idx, if that describes exactly these
// files. Otherwise returns false, and says so in a warning unless there is no such file.
bool ReadShardIndex(const std::filesystem::path& directory, std::vector<Shard>* shards);

}  // namespace fr
