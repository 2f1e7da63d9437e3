#pragma once
// What the loader reads: encoded images, each of one identity. Three layouts of it are read:
// InsightFace's records (record_set.h), plain folders (folder_set.h), WebDataset's shards
// (tar_set.h).

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/config/set_layout.h"

namespace fr {

// One image of a training set, as it was encoded, and whom it shows.
struct Sample {
  std::int64_t identity = 0;
  std::string_view image;  // into the set, or into `owned`
  std::string owned;       // the bytes, where the set does not hold them in memory

  Sample() = default;
  Sample(const Sample&) = delete;  // `image` may point into this very object
  Sample& operator=(const Sample&) = delete;
};

// The images of every identity: those of i are images[begin[i]] to images[begin[i + 1] - 1],
// ascending. An identity may have none.
struct IdentityImages {
  std::vector<std::int64_t> begin;    // [identities + 1]
  std::vector<std::uint32_t> images;  // [images]

  std::int64_t num_identities() const { return static_cast<std::int64_t>(begin.size()) - 1; }
  // Of every identity.
  std::vector<std::int64_t> counts() const;
  std::int64_t count(std::int64_t identity) const {
    const auto i = static_cast<std::size_t>(identity);
    return begin[i + 1] - begin[i];
  }
};

// From the identity of every image. REQUIRES: each in [0, num_identities).
IdentityImages GroupByIdentity(const std::vector<std::int64_t>& identities,
                               std::int64_t num_identities);

// Every method is thread-safe.
class TrainingSet {
 public:
  virtual ~TrainingSet() = default;

  virtual std::int64_t num_images() const = 0;
  virtual std::int64_t num_identities() const = 0;
  // Pixels that every image has.
  virtual int height() const = 0;
  virtual int width() const = 0;
  virtual const std::filesystem::path& path() const = 0;

  // Image `index` of [0, num_images()): its identity, in [0, num_identities()), and its bytes,
  // valid as long as the set and `sample`. Throws Error(kDataLoss) that says where the damage lies,
  // as Describe does.
  virtual void Read(std::int64_t index, Sample* sample) const = 0;

  // Where image `index` lies, in words: "faces/train.rec: key 17 at byte 104,220".
  virtual std::string Describe(std::int64_t index) const = 0;

  // Where the image begins on the disk: images in ascending order of it are read one after the
  // other.
  virtual std::uint64_t StoragePosition(std::int64_t index) const = 0;

  // Asks the system to read the images from `first` to `last`, as they lie on the disk, into
  // memory; returns at once. Only a hint.
  virtual void Prefetch(std::int64_t first, std::int64_t last) const = 0;

  // May read every image's label. Throws as Read does.
  virtual IdentityImages ImagesByIdentity() const = 0;
};

// Reads and decodes image `index` into `pixels` ([height, width, 3], RGB); returns its identity.
// Throws as Read does, also for what is no picture of the set's size.
std::int64_t DecodeSample(const TrainingSet& set, std::int64_t index, std::uint8_t* pixels);

// The encoded images of `identity`, of which `images` tells, behind those in `*encoded`. Throws as
// Read does.
void AppendEncoded(const TrainingSet& set, const IdentityImages& images, std::int64_t identity,
                   std::vector<std::string>* encoded);

struct ImageSize {
  int height = 0;
  int width = 0;
};

// Of image 0, which is decoded; for sets that do not say it themselves. Throws Error(kDataLoss)
// that names it.
ImageSize SizeOfFirstImage(const TrainingSet& set);

// FindSetLayout; throws Error(kNotFound) that says what was expected where none is found.
SetLayout LayoutAt(const std::filesystem::path& path);

// Opens what lies at `path`, by its layout. Throws Error(kNotFound | kIo | kDataLoss) that names
// the file, and says what was expected where none of the layouts is found.
std::unique_ptr<const TrainingSet> OpenTrainingSet(const std::filesystem::path& path);

}  // namespace fr
