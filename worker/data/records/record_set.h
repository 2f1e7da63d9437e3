#pragma once
// A training set of RecordIO, as InsightFace publishes them or as MXNet's im2rec makes them:
// train.rec, train.idx, property. docs/formats.md.

#include <cstdint>
#include <filesystem>
#include <vector>

#include "worker/data/records/record_file.h"
#include "worker/data/records/record_layout.h"
#include "worker/data/records/set_property.h"
#include "worker/data/training_set.h"

namespace fr {

class RecordSet final : public TrainingSet {
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
  void Prefetch(std::int64_t first, std::int64_t last) const override {
    records_.Prefetch(StoragePosition(first), StoragePosition(last));
  }
  // From the identity records, which cost a look each; without any, from every image's label.
  IdentityImages ImagesByIdentity() const override;

  // Image `index` has this key in train.idx.
  std::uint64_t KeyOf(std::int64_t index) const {
    return layout_.images_begin + static_cast<std::uint64_t>(index);
  }

 private:
  std::int64_t ReadLabel(std::int64_t index, ImageRecord* record) const;
  void LabelByIdentityRecords(std::vector<std::int64_t>* labels) const;

  std::filesystem::path directory_;
  SetProperty property_;
  RecordFile records_;
  RecordLayout layout_;
  std::vector<std::uint64_t> offsets_;           // of the images, in order of their keys
  std::vector<std::uint64_t> identity_offsets_;  // of the identity records; empty without
};

}  // namespace fr
