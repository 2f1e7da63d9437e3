// train.idx, and shards.idx behind a checksum that is always right.

#include "common/base/checksum.h"
#include "tests/fuzz/fuzz.h"
#include "worker/data/records/record_index.h"
#include "worker/data/records/record_layout.h"
#include "worker/data/shards/shard_index.h"

FR_FUZZ_TARGET(bytes) {
  if (bytes.starts_with("FRSHARD1")) {
    const std::uint64_t checksum = fr::ChecksumOf(bytes);
    std::string whole(bytes);
    whole.append(reinterpret_cast<const char*>(&checksum), sizeof(checksum));
    fr::ParseShardIndex(whole, "shards.idx");
    return;
  }
  fr::OffsetsByKey(fr::ParseIndex(bytes, "train.idx"), "train.idx");
}
