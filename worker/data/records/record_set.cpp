#include "worker/data/records/record_set.h"

#include <algorithm>
#include <string>

#include <fmt/format.h>

#include "common/base/error.h"

namespace fr {

namespace fs = std::filesystem;

namespace {

std::vector<IndexEntry> ReadIndexOf(const fs::path& directory) {
  std::error_code error;
  if (!fs::exists(directory / "train.idx", error)) {
    throw Error(ErrorCode::kNotFound,
                fmt::format("{}: no such file: copy it from where train.rec comes from, or make it "
                            "with fr-data index",
                            (directory / "train.idx").string()));
  }
  return ReadIndex(directory / "train.idx");
}

}  // namespace

RecordSet::RecordSet(const fs::path& directory)
    : directory_(directory),
      property_(ReadProperty(directory / "property")),
      records_(directory / "train.rec") {
  const fs::path idx = directory / "train.idx";
  std::vector<std::uint64_t> offsets = OffsetsByKey(ReadIndexOf(directory), idx);
  ImageRecord record;
  const std::uint64_t end =
      records_.Read(*std::max_element(offsets.begin(), offsets.end()), &record);
  records_.Read(offsets[0], &record);
  layout_ = LayoutOf(record, offsets.size(), directory / "train.rec");
  if (layout_.images_begin == 0 && end != records_.size_bytes()) {
    // With no record that announces how many there are, the index must cover the file.
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: its last record ends at byte {} of train.rec's {}: the index is "
                            "truncated or belongs to another file; copy it again, or remove it and "
                            "run fr-data index",
                            idx.string(), end, records_.size_bytes()));
  }
  const auto at = [&offsets](std::uint64_t key) {
    return offsets.begin() + static_cast<std::ptrdiff_t>(key);
  };
  identity_offsets_.assign(at(layout_.images_end), at(layout_.identities_end));
  offsets.resize(layout_.images_end);
  offsets.erase(offsets.begin(), at(layout_.images_begin));
  offsets_ = std::move(offsets);
  Sample sample;
  Read(0, &sample);
}

std::string RecordSet::Describe(std::int64_t index) const {
  return fmt::format("{}: key {} at byte {}", (directory_ / "train.rec").string(), KeyOf(index),
                     StoragePosition(index));
}

// The label of image `index`, whose record is read into `record`.
std::int64_t RecordSet::ReadLabel(std::int64_t index, ImageRecord* record) const {
  const std::uint64_t offset = StoragePosition(index);
  std::uint64_t end = 0;
  try {
    end = records_.Read(offset, record);
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{} (key {})", error.what(), KeyOf(index)));
  }
  if (index + 1 < num_images() && StoragePosition(index + 1) >= offset &&
      StoragePosition(index + 1) < end) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: runs into key {} at byte {}: train.rec is damaged, or its "
                            "train.idx belongs to another; copy both again",
                            Describe(index), KeyOf(index + 1), StoragePosition(index + 1)));
  }
  const std::int64_t identity = IdentityOf(*record, num_identities());
  if (identity < 0) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: its label is {}, but property says that there are {} identities, "
                            "from 0",
                            Describe(index), record->labels.empty() ? -1.0F : record->labels[0],
                            num_identities()));
  }
  return identity;
}

void RecordSet::Read(std::int64_t index, Sample* sample) const {
  ImageRecord record;
  sample->identity = ReadLabel(index, &record);
  if (record.joined.empty()) {
    sample->image = record.image;
    return;
  }
  const std::size_t header = record.joined.size() - record.image.size();
  sample->owned = std::move(record.joined);
  sample->image = std::string_view(sample->owned).substr(header);
}

// One look an identity, at the first of its images.
void RecordSet::LabelByIdentityRecords(std::vector<std::int64_t>* labels) const {
  ImageRecord record;
  for (const std::uint64_t offset : identity_offsets_) {
    std::int64_t first = 0;
    std::int64_t end = 0;
    records_.Read(offset, &record);
    if (!ReadImageRange(record, layout_, &first, &end)) {
      throw Error(ErrorCode::kDataLoss,
                  fmt::format("{}: the identity record at byte {} names no images of the set",
                              (directory_ / "train.rec").string(), offset));
    }
    if (first == end) continue;
    std::fill(labels->begin() + first, labels->begin() + end, ReadLabel(first, &record));
  }
}

IdentityImages RecordSet::ImagesByIdentity() const {
  std::vector<std::int64_t> labels(offsets_.size(), -1);
  if (layout_.images_end < kExactKeys) LabelByIdentityRecords(&labels);
  ImageRecord record;
  for (std::int64_t index = 0; index < num_images(); ++index) {
    std::int64_t& label = labels[static_cast<std::size_t>(index)];
    if (label < 0) label = ReadLabel(index, &record);
  }
  return GroupByIdentity(labels, num_identities());
}

}  // namespace fr
