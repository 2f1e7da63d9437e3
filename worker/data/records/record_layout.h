#pragma once
// Which keys of a record set are images, and which tell where the images of an identity lie.

#include <cstdint>
#include <filesystem>
#include <vector>

#include "worker/data/records/record_file.h"

namespace fr {

// Keys [images_begin, images_end) are images, [images_end, identities_end) identity records.
struct RecordLayout {
  std::uint64_t images_begin = 0;
  std::uint64_t images_end = 0;
  std::uint64_t identities_end = 0;
};

// From record 0 of a set with keys 0 to `num_keys` - 1. InsightFace's has no image, but labels:
// where the images end, and where the identity records. Where it is an image itself, as MXNet's
// im2rec writes sets, all keys are images. Throws Error(kDataLoss), naming `rec`, if it is neither,
// or if the keys that it announces are not there.
RecordLayout LayoutOf(const ImageRecord& record_0, std::size_t num_keys,
                      const std::filesystem::path& rec);

// Offsets by key. Throws Error(kDataLoss), naming `idx`, unless the keys are 0, 1, 2, ... in any
// order.
std::vector<std::uint64_t> OffsetsByKey(const std::vector<IndexEntry>& entries,
                                        const std::filesystem::path& idx);

// The images of an identity record: [first, end), counted from 0. Labels are float32, which count
// exactly up to 2^24 only. Returns false where its labels name no images of `layout`.
bool ReadImageRange(const ImageRecord& identity, const RecordLayout& layout, std::int64_t* first,
                    std::int64_t* end);

// Image keys up to here are exact in the labels of identity records; those of larger sets are
// rounded, and say nothing.
inline constexpr std::uint64_t kExactKeys = 1U << 24;

// A label as an identity of [0, num_identities), or -1 where it is none.
std::int64_t IdentityOf(const ImageRecord& image, std::int64_t num_identities);

}  // namespace fr
