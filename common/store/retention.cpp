#include "common/store/retention.h"

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <iterator>
#include <system_error>
#include <utility>

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

const CheckpointManifest& AddCheckpoint(std::vector<CheckpointManifest>* checkpoints,
                                        const CheckpointManifest& manifest) {
  CheckpointManifest stored = manifest;
  for (const CheckpointManifest& old : *checkpoints) {
    if (old.step() == manifest.step() && old.pinned()) stored.set_pinned(true);
  }
  std::erase_if(*checkpoints, [&](const auto& old) { return old.step() >= manifest.step(); });
  checkpoints->push_back(std::move(stored));
  return checkpoints->back();
}

std::vector<std::int64_t> RetiredCheckpoints(const std::vector<CheckpointManifest>& checkpoints,
                                             const CheckpointSpec& policy) {
  std::ptrdiff_t surplus = std::count_if(checkpoints.begin(), checkpoints.end(),
                                         [](const auto& one) { return !one.pinned(); }) -
                           policy.keep();
  const std::ptrdiff_t best =
      policy.has_keep_best() ? BestCheckpoint(checkpoints, policy.keep_best()) : -1;
  std::vector<std::int64_t> retired;
  for (std::ptrdiff_t i = 0; i < std::ssize(checkpoints) && surplus > 0; ++i) {
    const CheckpointManifest& checkpoint = checkpoints[static_cast<std::size_t>(i)];
    if (checkpoint.pinned()) continue;
    --surplus;
    if (i != best) retired.push_back(checkpoint.step());
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
