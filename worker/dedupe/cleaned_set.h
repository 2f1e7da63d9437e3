#pragma once
// A training set without the identities that were found to be duplicates.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "common/base/work_report.h"
#include "worker/data/training_set.h"

namespace fr {

struct CleanedSet {
  std::int64_t num_identities = 0;
  std::int64_t num_images = 0;
};

// Writes the images of `set` under new labels: those of identity i under labels[i], none for -1.
// Labels are dense. Identities without images are left out, and labels above them move down.
// identities.txt names the new ones: as `names` does the old ones, or, if it is empty, by their old
// number. old_identities.txt has a line `old<TAB>new` for each old one, `old<TAB>-` for one that is
// gone. A run that was stopped goes on. Throws what Read and RecordSetWriter throw.
CleanedSet WriteCleanedSet(const TrainingSet& set, std::vector<std::int64_t> labels,
                           const std::vector<std::string>& names,
                           const std::filesystem::path& directory, const WorkReport& report);

}  // namespace fr
