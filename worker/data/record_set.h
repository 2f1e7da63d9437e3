#pragma once
// A training set in InsightFace's layout: train.rec, train.idx, property. docs/formats.md.

#include <cstdint>
#include <filesystem>
#include <vector>

#include "worker/data/record_file.h"
#include "worker/data/training_set.h"

namespace fr {

// `property`: "85742,112,112".
struct SetProperty {
  std::int64_t num_identities = 0;
  int height = 0;  // pixels
  int width = 0;
};

// Throws Error(kNotFound | kIo), Error(kDataLoss) for anything but three positive numbers.
SetProperty ReadProperty(const std::filesystem::path& path);

class RecordSet : public TrainingSet {
 public:
  // Reads `property` and the index and looks at the first and the last record, so that a truncated
  // file is found at once and not hours later. Throws Error(kNotFound | kDataLoss | kIo) that
  // names the file.
  explicit RecordSet(const std::filesystem::path& directory);

  std::int64_t num_images() const override { return static_cast<std::int64_t>(offsets_.size()); }
  std::int64_t num_identities() const override { return property_.num_identities; }
  int height() const override { return property_.height; }
  int width() const override { return property_.width; }
  const std::filesystem::path& path() const override { return directory_; }
  void Read(std::int64_t index, Sample* sample) const override;
  std::string Describe(std::int64_t index) const override;
  std::uint64_t StoragePosition(std::int64_t index) const override {
    return offsets_[static_cast<std::size_t>(index)];
  }
  // From the identity records, which cost a look each; without any, from every image's label.
  IdentityImages ImagesByIdentity() const override;

  // Image `index` has this key in train.idx.
  static std::uint64_t KeyOf(std::int64_t index) { return static_cast<std::uint64_t>(index) + 1; }

 private:
  struct ImageRange {
    std::int64_t begin = 0;
    std::int64_t end = 0;
  };
  ImageRange ReadIdentityRange(std::size_t record_index) const;

  std::filesystem::path directory_;
  SetProperty property_;
  RecordFile records_;
  std::vector<std::uint64_t> offsets_;           // of the images, in order of their keys
  std::vector<std::uint64_t> identity_offsets_;  // of the identity records; empty without
};

}  // namespace fr
