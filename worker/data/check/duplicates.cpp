#include "worker/data/check/duplicates.h"

#include <algorithm>

#include "common/base/raw_value.h"

namespace fr {
namespace {

std::size_t Count(std::string_view entries) { return entries.size() / sizeof(ImageEntry); }

ImageEntry EntryAt(std::string_view entries, std::size_t i) {
  return LoadRaw<ImageEntry>(entries, i * sizeof(ImageEntry));
}

// The checksums that occur more than once, ascending, each once.
std::vector<Checksum128> FindRepeated(std::string_view entries) {
  std::vector<Checksum128> all;
  all.reserve(Count(entries));
  for (std::size_t i = 0; i < Count(entries); ++i) {
    const ImageEntry entry = EntryAt(entries, i);
    if (entry.identity != ImageEntry::kUnread) all.push_back(entry.checksum);
  }
  std::sort(all.begin(), all.end());
  std::vector<Checksum128> repeated;
  for (std::size_t i = 1; i < all.size(); ++i) {
    if (all[i] != all[i - 1]) continue;
    if (repeated.empty() || repeated.back() != all[i]) repeated.push_back(all[i]);
  }
  return repeated;
}

}  // namespace

Duplicates FindDuplicates(std::string_view entries) {
  const std::vector<Checksum128> repeated = FindRepeated(entries);
  std::vector<ImageEntry> members;
  for (std::size_t i = 0; i < Count(entries); ++i) {
    const ImageEntry entry = EntryAt(entries, i);
    if (entry.identity != ImageEntry::kUnread &&
        std::binary_search(repeated.begin(), repeated.end(), entry.checksum)) {
      members.push_back(entry);
    }
  }
  std::sort(members.begin(), members.end(), [](const ImageEntry& a, const ImageEntry& b) {
    return a.checksum != b.checksum ? a.checksum < b.checksum : a.index < b.index;
  });

  Duplicates found;
  for (std::size_t i = 0; i < members.size();) {
    DuplicateGroup group;
    const std::size_t begin = i;
    bool one_identity = true;
    for (; i < members.size() && members[i].checksum == members[begin].checksum; ++i) {
      group.images.push_back(members[i].index);
      group.identities.push_back(members[i].identity);
      one_identity = one_identity && members[i].identity == members[begin].identity;
    }
    (one_identity ? found.within_identity : found.across_identities).push_back(std::move(group));
  }
  const auto by_first = [](const DuplicateGroup& a, const DuplicateGroup& b) {
    return a.images.front() < b.images.front();
  };
  std::sort(found.within_identity.begin(), found.within_identity.end(), by_first);
  std::sort(found.across_identities.begin(), found.across_identities.end(), by_first);
  return found;
}

}  // namespace fr
