// Tar archives, and the samples in them.

#include "tests/fuzz/fuzz.h"
#include "worker/data/shards/shard_scan.h"

FR_FUZZ_TARGET(bytes) {
  for (const fr::ShardSample& sample : fr::ScanShard(bytes, "a.tar")) {
    if (sample.offset + sample.length > bytes.size()) __builtin_trap();
  }
}
