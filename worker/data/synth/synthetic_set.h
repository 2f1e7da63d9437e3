#pragma once
// `fr-data synth`: a data set of drawn faces, in InsightFace's layout.

#include <cstdint>
#include <filesystem>

#include "common/base/work_report.h"

namespace fr {

struct SyntheticSetOptions {
  std::int64_t identities = 200;
  std::int64_t images_per_identity = 40;
  std::uint64_t seed = 1;
  // Identities beside those, of which the verification set is made: nobody trains on them.
  std::int64_t held_out_identities = 60;
  std::int64_t max_pairs = 600;
  int threads = 1;
  WorkReport report;  // images
};

// Writes train.rec, train.idx, property and synth.bin into `directory`. Image k of identity i is a
// function of (seed, i, k), whatever the other options. A run that was
// stopped goes on when it is called again with the same options. Throws Error(kInvalidArgument |
// kFailedPrecondition | kIo).
void WriteSyntheticSet(const std::filesystem::path& directory, const SyntheticSetOptions& options);

}  // namespace fr
