#pragma once
// A training set in InsightFace's layout: train.rec, train.idx, property.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>
#include <vector>

#include "worker/data/record_io.h"

namespace fr {

// `property`: "85742,112,112".
struct SetProperty {
  std::int64_t num_identities = 0;
  int height = 0;  // pixels
  int width = 0;
};

// Throws Error(kNotFound | kIo), Error(kDataLoss) for anything but three positive numbers.
SetProperty ReadProperty(const std::filesystem::path& path);

// Thread-safe; cheap to move.
class TrainingSet {
 public:
  // Reads `property` and the index and looks at the first and the last record, so that a truncated
  // file is found at once and not hours later. Throws Error(kNotFound | kDataLoss | kIo) that
  // names the file.
  static TrainingSet Open(const std::filesystem::path& directory);

  std::int64_t num_images() const { return static_cast<std::int64_t>(offsets_.size()); }
  std::int64_t num_identities() const { return property_.num_identities; }
  int height() const { return property_.height; }
  int width() const { return property_.width; }
  const std::filesystem::path& directory() const { return directory_; }

  // Image `index` of [0, num_images): fills `record` and returns its identity, in
  // [0, num_identities). Throws Error(kDataLoss) for a damaged record or a label out of range.
  std::int64_t Read(std::int64_t index, ImageRecord* record) const;

  // Images of each identity, in order of identity, from the identity records; empty if the set has
  // none.
  const std::vector<std::int64_t>& images_per_identity() const { return images_per_identity_; }

 private:
  std::filesystem::path directory_;
  SetProperty property_;
  std::shared_ptr<const RecordFile> records_;
  std::vector<std::uint64_t> offsets_;  // of the images, in order of their keys
  std::vector<std::int64_t> images_per_identity_;
};

// Writes a training set: images first, of one identity after the other, from 0.
class TrainingSetWriter {
 public:
  // Makes `directory` if it is not there. Throws Error(kFailedPrecondition) if it holds a training
  // set already, Error(kIo).
  explicit TrainingSetWriter(const std::filesystem::path& directory);

  // The images (JPEG or PNG) of the next identity. REQUIRES: not empty.
  void AddIdentity(const std::vector<std::string>& images);

  // Writes the identity records and `property`, without which it is no set. Throws Error(kIo).
  void Finish(int height, int width);

  std::int64_t num_images() const { return next_key_ - 1; }
  std::int64_t num_identities() const { return static_cast<std::int64_t>(first_keys_.size()); }

 private:
  std::filesystem::path directory_;
  RecordWriter records_;
  std::int64_t next_key_ = 1;
  std::vector<std::int64_t> first_keys_;
};

}  // namespace fr
