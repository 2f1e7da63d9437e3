#include "worker/dedupe/cleaned_set.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/base/checksum.h"
#include "common/base/error.h"
#include "common/base/file.h"
#include "worker/data/prepare/set_fingerprint.h"
#include "worker/data/records/record_set_writer.h"

namespace fr {
namespace {

// labels[i] becomes dense again once identities without images are gone.
void LeaveOutEmpty(const IdentityImages& images, std::vector<std::int64_t>* labels) {
  std::vector<std::int64_t> renumbered(labels->size(), -1);
  for (std::size_t i = 0; i < labels->size(); ++i) {
    if (images.count(static_cast<std::int64_t>(i)) == 0) (*labels)[i] = -1;
    if ((*labels)[i] >= 0) renumbered[static_cast<std::size_t>((*labels)[i])] = 0;
  }
  std::int64_t next = 0;
  for (std::int64_t& label : renumbered) {
    if (label == 0) label = next++;
  }
  for (std::int64_t& label : *labels) {
    if (label >= 0) label = renumbered[static_cast<std::size_t>(label)];
  }
}

// The old identities of each new label, ascending.
std::vector<std::vector<std::int64_t>> MembersOf(const std::vector<std::int64_t>& labels) {
  std::vector<std::vector<std::int64_t>> members;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] < 0) continue;
    const auto label = static_cast<std::size_t>(labels[i]);
    if (label >= members.size()) members.resize(label + 1);
    members[label].push_back(static_cast<std::int64_t>(i));
  }
  return members;
}

std::string OldIdentitiesText(const std::vector<std::int64_t>& labels) {
  std::string text;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    text += labels[i] < 0 ? fmt::format("{}\t-\n", i) : fmt::format("{}\t{}\n", i, labels[i]);
  }
  return text;
}

std::string NameOf(std::int64_t identity, const std::vector<std::string>& names) {
  return names.empty() ? std::to_string(identity) : names[static_cast<std::size_t>(identity)];
}

}  // namespace

CleanedSet WriteCleanedSet(const TrainingSet& set, std::vector<std::int64_t> labels,
                           const std::vector<std::string>& names,
                           const std::filesystem::path& directory, const WorkReport& report) {
  const IdentityImages images = set.ImagesByIdentity();
  LeaveOutEmpty(images, &labels);
  const auto members = MembersOf(labels);
  if (members.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: no identity is left: a lower bound than --threshold makes few "
                            "people the same; raise it",
                            set.path().string()));
  }
  const std::string map = OldIdentitiesText(labels);
  const std::string fingerprint =
      fmt::format("dedupe\n{}{:016x}", FingerprintOf(set), ChecksumOf(map));
  RecordSetWriter writer(directory, {fingerprint, ResumeOptions{}.checkpoint_bytes}, true);
  writer.TellStart(report);
  const std::int64_t total = std::ssize(members);
  CleanedSet cleaned{total, 0};
  for (const auto& group : members) {
    for (const std::int64_t old : group) cleaned.num_images += images.count(old);
  }
  if (writer.complete()) return cleaned;
  WriteFileAtomically(directory / "old_identities.txt", map);
  for (std::int64_t label = writer.place(); label < total; ++label) {
    report.progress(label, total);
    std::vector<std::string> encoded;
    const auto& group = members[static_cast<std::size_t>(label)];
    for (const std::int64_t old : group) AppendEncoded(set, images, old, &encoded);
    writer.AddIdentity(encoded, NameOf(group.front(), names));
    if (writer.CheckpointDue()) writer.Checkpoint(label + 1);
  }
  report.progress(total, total);
  writer.Finish(set.height(), set.width());
  return cleaned;
}

}  // namespace fr
