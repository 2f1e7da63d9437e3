#include "worker/data/training_set.h"

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
  constexpr float kExactFloat = 1 << 24;
  if (header.labels[1] <= kExactFloat) {
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

TrainingSet TrainingSet::Open(const fs::path& directory) {
  TrainingSet set;
  set.directory_ = directory;
  set.property_ = ReadProperty(directory / "property");
  const fs::path rec = directory / "train.rec";
  set.records_ = std::make_shared<const RecordFile>(rec);
  const std::vector<std::uint64_t> offsets = OffsetsByKey(directory / "train.idx");

  ImageRecord record;
  set.records_->Read(*std::max_element(offsets.begin(), offsets.end()), &record);
  set.records_->Read(offsets[0], &record);
  const KeyRanges ranges = ReadKeyRanges(rec, record, offsets.size());
  set.offsets_.assign(offsets.begin() + 1,
                      offsets.begin() + static_cast<std::ptrdiff_t>(ranges.images_end));
  if (set.offsets_.empty()) {
    throw Error(ErrorCode::kDataLoss, fmt::format("{}: holds no images", rec.string()));
  }
  if (ranges.identities_end - ranges.images_end ==
      static_cast<std::uint64_t>(set.num_identities())) {
    for (std::uint64_t key = ranges.images_end; key < ranges.identities_end; ++key) {
      set.records_->Read(offsets[key], &record);
      if (record.labels.size() < 2) continue;
      set.images_per_identity_.push_back(
          std::llround(static_cast<double>(record.labels[1]) - record.labels[0]));
    }
  }
  set.Read(0, &record);
  return set;
}

std::int64_t TrainingSet::Read(std::int64_t index, ImageRecord* record) const {
  records_->Read(offsets_[static_cast<std::size_t>(index)], record);
  const double label = record->labels.empty() ? -1 : record->labels[0];
  if (!(label >= 0) || label >= static_cast<double>(num_identities()) ||
      label != std::floor(label)) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: image {} has label {}, but property says that there are {} "
                            "identities, from 0",
                            (directory_ / "train.rec").string(), index, label, num_identities()));
  }
  return static_cast<std::int64_t>(label);
}

namespace {

fs::path MadeForSet(const fs::path& directory) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) {
    throw Error(ErrorCode::kIo, fmt::format("{}: {}", directory.string(), error.message()));
  }
  if (fs::exists(directory / "property")) {
    throw Error(ErrorCode::kFailedPrecondition,
                fmt::format("{}: holds a training set already; remove it, or choose another "
                            "directory",
                            directory.string()));
  }
  return directory;
}

}  // namespace

TrainingSetWriter::TrainingSetWriter(const fs::path& directory)
    : directory_(MadeForSet(directory)),
      records_(directory / "train.rec", directory / "train.idx") {}

void TrainingSetWriter::AddIdentity(const std::vector<std::string>& images) {
  const auto label = static_cast<float>(first_keys_.size());
  first_keys_.push_back(next_key_);
  for (const std::string& image : images) {
    records_.Write(static_cast<std::uint64_t>(next_key_++), {label}, image);
  }
}

void TrainingSetWriter::Finish(int height, int width) {
  const std::int64_t images_end = next_key_;
  const std::int64_t identities_end = images_end + num_identities();
  std::int64_t key = images_end;
  for (std::size_t i = 0; i < first_keys_.size(); ++i) {
    const std::int64_t end = i + 1 < first_keys_.size() ? first_keys_[i + 1] : images_end;
    records_.Write(static_cast<std::uint64_t>(key++),
                   {static_cast<float>(first_keys_[i]), static_cast<float>(end)}, "");
  }
  records_.Write(0, {static_cast<float>(images_end), static_cast<float>(identities_end)}, "");
  records_.Finish();
  WriteFileAtomically(directory_ / "property",
                      fmt::format("{},{},{}\n", num_identities(), height, width));
}

}  // namespace fr
