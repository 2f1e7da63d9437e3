#include "worker/data/training_set.h"

#include "worker/data/record_set.h"

namespace fr {

IdentityImages GroupByIdentity(const std::vector<std::int64_t>& identities,
                               std::int64_t num_identities) {
  IdentityImages grouped;
  grouped.begin.resize(static_cast<std::size_t>(num_identities) + 1);
  for (const std::int64_t identity : identities) {
    ++grouped.begin[static_cast<std::size_t>(identity) + 1];
  }
  for (std::size_t i = 1; i < grouped.begin.size(); ++i) grouped.begin[i] += grouped.begin[i - 1];
  std::vector<std::int64_t> next = grouped.begin;
  grouped.images.resize(identities.size());
  for (std::size_t image = 0; image < identities.size(); ++image) {
    const auto identity = static_cast<std::size_t>(identities[image]);
    grouped.images[static_cast<std::size_t>(next[identity]++)] = static_cast<std::uint32_t>(image);
  }
  return grouped;
}

std::unique_ptr<const TrainingSet> OpenTrainingSet(const std::filesystem::path& path) {
  return std::make_unique<RecordSet>(path);
}

}  // namespace fr
