#pragma once
// `fr-data merge`: several training sets as one.

#include <cstdint>
#include <filesystem>
#include <vector>

#include "common/base/work_report.h"

namespace fr {

struct MergeOptions {
  // Identities of one name (in identities.txt) become one; without, those of the later sets follow
  // those of the earlier ones.
  bool same_names = false;
  std::uint64_t checkpoint_bytes = std::uint64_t{64} << 20;  // see ResumeOptions
  WorkReport report;                                         // images
};

// Writes the images of all `sets`, the bytes as they are stored, identity by identity into `out`,
// in InsightFace's layout; identities.txt too, if every set has one. Stopped, the same call goes
// on. Throws Error(kInvalidArgument) for sets of different sizes of images, or without names where
// they are needed; Error(kDataLoss) for a damaged set; and as RecordSetWriter.
void MergeSets(const std::vector<std::filesystem::path>& sets, const std::filesystem::path& out,
               const MergeOptions& options);

}  // namespace fr
