#include "common/store/retention.h"

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <system_error>

#include "common/base/logging.h"

namespace fr {
namespace {

// Index of the checkpoint with the best accuracy on `set`; -1 if none was validated on it.
std::ptrdiff_t BestCheckpoint(const std::vector<CheckpointManifest>& checkpoints,
                              const std::string& set) {
  std::ptrdiff_t best = -1;
  double best_accuracy = 0;
  for (std::size_t i = 0; i < checkpoints.size(); ++i) {
    for (const ValidationResult& result : checkpoints[i].validation()) {
      if (result.set() != set) continue;
      if (best >= 0 && !(result.accuracy() > best_accuracy)) continue;
      best = static_cast<std::ptrdiff_t>(i);
      best_accuracy = result.accuracy();
    }
  }
  return best;
}

}  // namespace

std::vector<std::int64_t> RetiredCheckpoints(const std::vector<CheckpointManifest>& checkpoints,
                                             const CheckpointSpec& policy) {
  const auto count = static_cast<std::ptrdiff_t>(checkpoints.size());
  const std::ptrdiff_t best =
      policy.has_keep_best() ? BestCheckpoint(checkpoints, policy.keep_best()) : -1;
  std::vector<std::int64_t> retired;
  for (std::ptrdiff_t i = 0; i < count - policy.keep(); ++i) {
    if (i != best) retired.push_back(checkpoints[static_cast<std::size_t>(i)].step());
  }
  return retired;
}

void RemoveCheckpoints(const std::vector<CheckpointManifest>& checkpoints,
                       const std::vector<std::int64_t>& retired) {
  for (const CheckpointManifest& old : checkpoints) {
    if (std::find(retired.begin(), retired.end(), old.step()) == retired.end()) continue;
    std::error_code error;
    std::filesystem::remove_all(old.directory(), error);
    if (error) spdlog::warn("{}: cannot be removed: {}", old.directory(), error.message());
  }
}

}  // namespace fr
