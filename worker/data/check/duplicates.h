#pragma once
// Images of a training set that are the same, byte by byte.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/checksum.h"

namespace fr {

// What is known of one image; these lie one after the other in a file.
struct ImageEntry {
  static constexpr std::uint32_t kUnread = ~std::uint32_t{0};
  Checksum128 checksum;  // of its bytes
  std::uint32_t index = 0;
  std::uint32_t identity = kUnread;  // kUnread: neither this nor the checksum is known
};
static_assert(sizeof(ImageEntry) == 24);

// Images with the same bytes: their indices, ascending, and of each the identity.
struct DuplicateGroup {
  std::vector<std::int64_t> images;
  std::vector<std::int64_t> identities;
  std::vector<std::string>
      where;  // in words, as TrainingSet::Describe; FindDuplicates leaves it empty
};

// In order of their first images.
struct Duplicates {
  std::vector<DuplicateGroup> within_identity;
  std::vector<DuplicateGroup> across_identities;  // at least one of the labels is wrong
};

// `entries`: the bytes of ImageEntry records, in any order. Takes 16 bytes of memory for each.
Duplicates FindDuplicates(std::string_view entries);

}  // namespace fr
