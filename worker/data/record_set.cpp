#include "worker/data/record_set.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/file.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

// Labels are float32, which count exactly up to here.
constexpr std::int64_t kExactFloat = 1 << 24;

// Keys [1, images_end) are images, [images_end, identities_end) identities.
struct KeyRanges {
  std::uint64_t images_end = 0;
  std::uint64_t identities_end = 0;
};

// Offsets by key. Throws Error(kDataLoss) unless keys are 0, 1, 2, ... in any order.
std::vector<std::uint64_t> OffsetsByKey(const fs::path& path) {
  const std::vector<IndexEntry> entries = ReadIndex(path);
  constexpr std::uint64_t kAbsent = ~std::uint64_t{0};
  std::vector<std::uint64_t> offsets(entries.size(), kAbsent);
  for (const IndexEntry& entry : entries) {
    if (entry.key >= offsets.size() || offsets[entry.key] != kAbsent) {
      throw Error(ErrorCode::kDataLoss,
                  fmt::format("{}: key {} is there twice, or lower ones are missing: the file is "
                              "truncated or damaged; copy it again",
                              path.string(), entry.key));
    }
    offsets[entry.key] = entry.offset;
  }
  if (offsets.empty()) {
    throw Error(ErrorCode::kDataLoss, fmt::format("{}: is empty", path.string()));
  }
  return offsets;
}

// From record 0, which has no image but two labels.
KeyRanges ReadKeyRanges(const fs::path& rec, const ImageRecord& header, std::size_t num_keys) {
  if (header.labels.size() < 2 || header.labels[0] < 1) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: its first record does not say where images end and identities "
                            "begin: this is no training set of InsightFace; fr-data pack makes one "
                            "from a folder of images",
                            rec.string()));
  }
  // Labels are float32, which is exact up to 2^24 only: WebFace42M's 42 million are rounded there.
  // The number of keys is exact; the labels then say how many of them are identities.
  KeyRanges ranges;
  const auto identities = static_cast<std::uint64_t>(
      std::max(0.0, static_cast<double>(header.labels[1]) - static_cast<double>(header.labels[0])));
  if (header.labels[1] <= static_cast<float>(kExactFloat)) {
    ranges = {static_cast<std::uint64_t>(header.labels[0]),
              static_cast<std::uint64_t>(header.labels[1])};
  } else {
    ranges = {num_keys - std::min<std::uint64_t>(identities, num_keys - 1), num_keys};
  }
  if (ranges.images_end > num_keys || ranges.identities_end > num_keys ||
      ranges.images_end > ranges.identities_end) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: its first record announces images up to key {} and identities up "
                            "to key {}, but train.idx has {} keys: one of them is truncated or "
                            "belongs to another set",
                            rec.string(), ranges.images_end, ranges.identities_end, num_keys));
  }
  return ranges;
}

}  // namespace

SetProperty ReadProperty(const fs::path& path) {
  const std::string text = ReadFile(path);
  std::int64_t numbers[3] = {};
  const char* at = text.data();
  const char* const end = at + text.size();
  for (int i = 0; i < 3; ++i) {
    const auto [rest, error] = std::from_chars(at, end, numbers[i]);
    const bool separated = i == 2 || (rest != end && *rest == ',');
    if (error != std::errc() || !separated || numbers[i] < 1 || (i > 0 && numbers[i] > 4096)) {
      throw Error(ErrorCode::kDataLoss,
                  fmt::format("{}: 'identities,height,width' is expected, such as 85742,112,112",
                              path.string()));
    }
    at = rest + (i < 2 ? 1 : 0);
  }
  return {numbers[0], static_cast<int>(numbers[1]), static_cast<int>(numbers[2])};
}

RecordSet::RecordSet(const fs::path& directory)
    : directory_(directory),
      property_(ReadProperty(directory / "property")),
      records_(directory / "train.rec") {
  const std::vector<std::uint64_t> offsets = OffsetsByKey(directory / "train.idx");
  ImageRecord record;
  records_.Read(*std::max_element(offsets.begin(), offsets.end()), &record);
  records_.Read(offsets[0], &record);
  const KeyRanges ranges = ReadKeyRanges(directory / "train.rec", record, offsets.size());
  const auto at = [&offsets](std::uint64_t key) {
    return offsets.begin() + static_cast<std::ptrdiff_t>(key);
  };
  offsets_.assign(at(1), at(ranges.images_end));
  if (offsets_.empty()) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: holds no images", (directory / "train.rec").string()));
  }
  identity_offsets_.assign(at(ranges.images_end), at(ranges.identities_end));
  Sample sample;
  Read(0, &sample);
}

std::string RecordSet::Describe(std::int64_t index) const {
  return fmt::format("{}: key {} at byte {}", (directory_ / "train.rec").string(), KeyOf(index),
                     StoragePosition(index));
}

void RecordSet::Read(std::int64_t index, Sample* sample) const {
  ImageRecord record;
  try {
    records_.Read(offsets_[static_cast<std::size_t>(index)], &record);
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{} (key {})", error.what(), KeyOf(index)));
  }
  const double label = record.labels.empty() ? -1 : record.labels[0];
  if (!(label >= 0) || label >= static_cast<double>(num_identities()) ||
      label != std::floor(label)) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: its label is {}, but property says that there are {} identities, "
                            "from 0",
                            Describe(index), label, num_identities()));
  }
  sample->identity = static_cast<std::int64_t>(label);
  if (record.joined.empty()) {
    sample->image = record.image;
    return;
  }
  const std::size_t header = record.joined.size() - record.image.size();
  sample->owned = std::move(record.joined);
  sample->image = std::string_view(sample->owned).substr(header);
}

// The images of identity record `record`: [first, end). Throws Error(kDataLoss).
RecordSet::ImageRange RecordSet::ReadIdentityRange(std::size_t record_index) const {
  ImageRecord record;
  records_.Read(identity_offsets_[record_index], &record);
  const std::vector<float>& keys = record.labels;
  if (keys.size() < 2 || !(keys[0] >= 1) || !(keys[1] >= keys[0]) ||
      static_cast<double>(keys[1]) > static_cast<double>(num_images()) + 1) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: the identity record at byte {} names no images of the set",
                            (directory_ / "train.rec").string(), identity_offsets_[record_index]));
  }
  return {static_cast<std::int64_t>(keys[0]) - 1, static_cast<std::int64_t>(keys[1]) - 1};
}

IdentityImages RecordSet::ImagesByIdentity() const {
  std::vector<std::int64_t> labels(offsets_.size(), -1);
  Sample sample;
  // Keys are written as float32: those of larger sets are rounded.
  const bool use_ranges = !identity_offsets_.empty() && num_images() < kExactFloat;
  for (std::size_t i = 0; use_ranges && i < identity_offsets_.size(); ++i) {
    const auto [begin, end] = ReadIdentityRange(i);
    if (begin == end) continue;
    Read(begin, &sample);
    std::fill(labels.begin() + begin, labels.begin() + end, sample.identity);
  }
  for (std::int64_t index = 0; index < num_images(); ++index) {
    if (labels[static_cast<std::size_t>(index)] >= 0) continue;
    Read(index, &sample);
    labels[static_cast<std::size_t>(index)] = sample.identity;
  }
  return GroupByIdentity(labels, num_identities());
}

}  // namespace fr
