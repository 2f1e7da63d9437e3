#include "worker/data/prepare/merge.h"

#include <algorithm>
#include <memory>
#include <string>
#include <unordered_map>

#include <fmt/format.h>

#include "common/base/error.h"
#include "worker/data/folders/identity_names.h"
#include "worker/data/prepare/set_fingerprint.h"
#include "worker/data/records/record_set_writer.h"
#include "worker/data/training_set.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

struct Input {
  std::unique_ptr<const TrainingSet> set;
  IdentityImages images;
  std::vector<std::string> names;  // of its identities; may be empty
};

std::vector<Input> OpenAll(const std::vector<fs::path>& paths) {
  std::vector<Input> inputs;
  for (const fs::path& path : paths) {
    Input input;
    input.set = OpenTrainingSet(path);
    const TrainingSet& first = inputs.empty() ? *input.set : *inputs.front().set;
    if (input.set->height() != first.height() || input.set->width() != first.width()) {
      throw Error(
          ErrorCode::kInvalidArgument,
          fmt::format("{} has images of {} x {} pixels, {} of {} x {}: sets that are merged "
                      "must have the same",
                      first.path().string(), first.width(), first.height(), path.string(),
                      input.set->width(), input.set->height()));
    }
    input.images = input.set->ImagesByIdentity();
    input.names = ReadIdentityNames(path, input.set->num_identities());
    inputs.push_back(std::move(input));
  }
  return inputs;
}

// Identity `identity` of set number `set` goes into identity `target`.
struct Part {
  std::int64_t target = 0;
  std::size_t set = 0;
  std::int64_t identity = 0;
};

// In order of targets, which are 0, 1, 2, ...
std::vector<Part> PlanMerge(const std::vector<Input>& inputs, bool same_names) {
  std::vector<Part> parts;
  std::unordered_map<std::string, std::int64_t> target_of_name;
  std::int64_t next = 0;
  for (std::size_t s = 0; s < inputs.size(); ++s) {
    const Input& input = inputs[s];
    if (same_names && input.names.empty()) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{}: has no {}, by which identities of one name could be found",
                              input.set->path().string(), kIdentityNamesFile));
    }
    for (std::int64_t i = 0; i < input.set->num_identities(); ++i) {
      std::int64_t target = next;
      if (same_names) {
        target = target_of_name.try_emplace(input.names[static_cast<std::size_t>(i)], next)
                     .first->second;
      }
      if (target == next) ++next;
      parts.push_back({target, s, i});
    }
  }
  std::stable_sort(parts.begin(), parts.end(),
                   [](const Part& a, const Part& b) { return a.target < b.target; });
  return parts;
}

std::string Fingerprint(const std::vector<Input>& inputs, bool same_names) {
  std::string text = fmt::format("merge {}\n", same_names);
  for (const Input& input : inputs) text += FingerprintOf(*input.set);
  return text;
}

}  // namespace

void MergeSets(const std::vector<fs::path>& sets, const fs::path& out,
               const MergeOptions& options) {
  const std::vector<Input> inputs = OpenAll(sets);
  const std::vector<Part> parts = PlanMerge(inputs, options.same_names);
  const bool named =
      std::none_of(inputs.begin(), inputs.end(), [](const Input& i) { return i.names.empty(); });
  RecordSetWriter writer(out, {Fingerprint(inputs, options.same_names), options.checkpoint_bytes},
                         named);
  writer.TellStart(options.report);
  if (writer.complete()) return;

  std::int64_t total = 0;
  for (const Input& input : inputs) total += input.set->num_images();
  for (auto at = static_cast<std::size_t>(writer.place()); at < parts.size();) {
    options.report.progress(writer.num_images(), total);
    const Part& first = parts[at];
    const std::vector<std::string>& names = inputs[first.set].names;
    std::vector<std::string> images;
    for (; at < parts.size() && parts[at].target == first.target; ++at) {
      const Input& input = inputs[parts[at].set];
      AppendEncoded(*input.set, input.images, parts[at].identity, &images);
    }
    writer.AddIdentity(images, named ? names[static_cast<std::size_t>(first.identity)] : "");
    if (writer.CheckpointDue()) writer.Checkpoint(static_cast<std::int64_t>(at));
  }
  options.report.progress(total, total);
  writer.Finish(inputs.front().set->height(), inputs.front().set->width());
}

}  // namespace fr
