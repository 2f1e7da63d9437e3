#include "worker/data/records/record_layout.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "common/base/error.h"

namespace fr {
namespace {

// The end of the identity records, given the labels of record 0.
RecordLayout AnnouncedLayout(const std::vector<float>& labels, std::size_t num_keys) {
  if (labels[1] <= static_cast<float>(kExactKeys)) {
    return {1, static_cast<std::uint64_t>(labels[0]), static_cast<std::uint64_t>(labels[1])};
  }
  // WebFace42M's 42 million are rounded. The number of keys is exact; the labels then say how many
  // of them are identities: ours in a third one, others' by their difference.
  const double identities = std::max(
      0.0, labels.size() > 2 ? static_cast<double>(labels[2])
                             : static_cast<double>(labels[1]) - static_cast<double>(labels[0]));
  const auto most = static_cast<double>(num_keys - 1);
  return {1, num_keys - static_cast<std::uint64_t>(std::min(identities, most)), num_keys};
}

}  // namespace

RecordLayout LayoutOf(const ImageRecord& record_0, std::size_t num_keys,
                      const std::filesystem::path& rec) {
  if (!record_0.image.empty()) return {0, num_keys, num_keys};
  const std::vector<float>& labels = record_0.labels;
  if (labels.size() < 2 || !(labels[0] >= 1) || !(labels[1] >= labels[0])) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: its record 0 is neither an image nor says where images end and "
                            "identities begin: this is no training set of InsightFace or MXNet; "
                            "fr-data pack makes one from a folder of images",
                            rec.string()));
  }
  const RecordLayout layout = AnnouncedLayout(labels, num_keys);
  if (layout.images_end > num_keys || layout.identities_end > num_keys) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: its record 0 announces images up to key {} and identities up "
                            "to key {}, but train.idx has {} keys: one of them is truncated or "
                            "belongs to another set",
                            rec.string(), layout.images_end, layout.identities_end, num_keys));
  }
  if (layout.images_begin == layout.images_end) {
    throw Error(ErrorCode::kDataLoss, fmt::format("{}: holds no images", rec.string()));
  }
  return layout;
}

std::vector<std::uint64_t> OffsetsByKey(const std::vector<IndexEntry>& entries,
                                        const std::filesystem::path& idx) {
  constexpr std::uint64_t kAbsent = ~std::uint64_t{0};
  std::vector<std::uint64_t> offsets(entries.size(), kAbsent);
  for (const IndexEntry& entry : entries) {
    if (entry.key >= offsets.size() || offsets[entry.key] != kAbsent) {
      throw Error(ErrorCode::kDataLoss,
                  fmt::format("{}: key {} is there twice, or lower ones are missing: the file is "
                              "truncated or damaged; copy it again",
                              idx.string(), entry.key));
    }
    offsets[entry.key] = entry.offset;
  }
  if (offsets.empty()) {
    throw Error(ErrorCode::kDataLoss, fmt::format("{}: is empty", idx.string()));
  }
  return offsets;
}

bool ReadImageRange(const ImageRecord& identity, const RecordLayout& layout, std::int64_t* first,
                    std::int64_t* end) {
  const std::vector<float>& keys = identity.labels;
  const auto lowest = static_cast<double>(layout.images_begin);
  if (keys.size() < 2 || !(keys[0] >= lowest) || !(keys[1] >= keys[0]) ||
      static_cast<double>(keys[1]) > static_cast<double>(layout.images_end)) {
    return false;
  }
  *first = static_cast<std::int64_t>(keys[0]) - static_cast<std::int64_t>(layout.images_begin);
  *end = static_cast<std::int64_t>(keys[1]) - static_cast<std::int64_t>(layout.images_begin);
  return true;
}

std::int64_t IdentityOf(const ImageRecord& image, std::int64_t num_identities) {
  const double label = image.labels.empty() ? -1 : static_cast<double>(image.labels[0]);
  const bool known =
      label >= 0 && label < static_cast<double>(num_identities) && label == std::floor(label);
  return known ? static_cast<std::int64_t>(label) : -1;
}

}  // namespace fr
