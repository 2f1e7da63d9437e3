#pragma once
// `fr-data shuffle`: a training set whose records lie in random order, so that reading it from
// front to back is a random order: for disks that seek slowly and for object stores.

#include <cstdint>
#include <filesystem>

#include "common/base/work_report.h"

namespace fr {

struct ShuffleOptions {
  std::uint64_t seed = 1;
  std::uint64_t memory_bytes = std::uint64_t{1} << 30;       // for images, at most
  std::uint64_t checkpoint_bytes = std::uint64_t{64} << 20;  // see ResumeOptions
  WorkReport report;                                         // images, each counted twice
};

// Writes the set at `set` into `out`, in InsightFace's layout: image i has key i + 1 and its label,
// as pack and InsightFace number them, and the bytes are as they were; only their places in
// train.rec are others, a function of the seed. identities.txt comes along. Identity records are
// written if the images of every identity follow each other. Two passes with temporary files in
// `out`, which take once more the size of the set. Stopped, the same call goes on. Throws
// Error(kInvalidArgument) if the memory is too little, naming what would do; Error(kDataLoss) for a
// damaged set; and as RecordSetWriter.
void ShuffleSet(const std::filesystem::path& set, const std::filesystem::path& out,
                const ShuffleOptions& options);

}  // namespace fr
