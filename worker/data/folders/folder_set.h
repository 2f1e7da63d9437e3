#pragma once
// A training set of plain files: FOLDER/IDENTITY/PICTURE.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "worker/data/training_set.h"

namespace fr {

// Identities are numbered in the natural order of their folders' names; only folders with pictures
// count. Identity i is of every listing, so folders must not change while a job runs.
class FolderSet final : public TrainingSet {
 public:
  // Lists the folder and decodes the first picture, whose size all others must have: those that
  // differ are found when they are decoded. Throws as ListPictureFolder, and Error(kDataLoss) if
  // the first picture is broken.
  explicit FolderSet(const std::filesystem::path& folder);

  std::int64_t num_images() const override { return static_cast<std::int64_t>(files_.size()); }
  std::int64_t num_identities() const override { return static_cast<std::int64_t>(names_.size()); }
  int height() const override { return size_.height; }
  int width() const override { return size_.width; }
  const std::filesystem::path& path() const override { return folder_; }
  void Read(std::int64_t index, Sample* sample) const override;
  std::string Describe(std::int64_t index) const override { return PathOf(index).string(); }
  // The order of names: what is unpacked or copied in it often lies so on the disk.
  std::uint64_t StoragePosition(std::int64_t index) const override {
    return static_cast<std::uint64_t>(index);
  }
  void Prefetch(std::int64_t, std::int64_t) const override {}  // files lie where they lie
  IdentityImages ImagesByIdentity() const override;

  // The folder of an identity.
  const std::string& name(std::int64_t identity) const {
    return names_[static_cast<std::size_t>(identity)];
  }

 private:
  std::int64_t IdentityOf(std::int64_t index) const;
  std::filesystem::path PathOf(std::int64_t index) const;

  std::filesystem::path folder_;
  std::vector<std::string> names_;   // of the identities
  std::vector<std::int64_t> begin_;  // [identities + 1]: the first image of each
  std::vector<std::string> files_;   // names of the images, without folders
  ImageSize size_;
};

}  // namespace fr
