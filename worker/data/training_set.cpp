#include "worker/data/training_set.h"

#include <algorithm>
#include <thread>

#include <fmt/format.h>

#include "common/base/error.h"
#include "worker/data/folders/folder_set.h"
#include "worker/data/images/image.h"
#include "worker/data/records/record_set.h"
#include "worker/data/shards/tar_set.h"

namespace fr {

namespace fs = std::filesystem;

std::vector<std::int64_t> IdentityImages::counts() const {
  std::vector<std::int64_t> all;
  for (std::int64_t i = 0; i < num_identities(); ++i) all.push_back(count(i));
  return all;
}

IdentityImages GroupByIdentity(const std::vector<std::int64_t>& identities,
                               std::int64_t num_identities) {
  IdentityImages grouped;
  grouped.begin.resize(static_cast<std::size_t>(num_identities) + 1);
  for (const std::int64_t identity : identities) {
    ++grouped.begin[static_cast<std::size_t>(identity) + 1];
  }
  for (std::size_t i = 1; i < grouped.begin.size(); ++i) grouped.begin[i] += grouped.begin[i - 1];
  std::vector<std::int64_t> next = grouped.begin;
  grouped.images.resize(identities.size());
  for (std::size_t image = 0; image < identities.size(); ++image) {
    const auto identity = static_cast<std::size_t>(identities[image]);
    grouped.images[static_cast<std::size_t>(next[identity]++)] = static_cast<std::uint32_t>(image);
  }
  return grouped;
}

ImageSize SizeOfFirstImage(const TrainingSet& set) {
  Sample sample;
  set.Read(0, &sample);
  try {
    const Image image = DecodeImage(sample.image);
    return {image.height, image.width};
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: {}", set.Describe(0), error.what()));
  }
}

std::int64_t DecodeSample(const TrainingSet& set, std::int64_t index, std::uint8_t* pixels) {
  Sample sample;
  set.Read(index, &sample);
  try {
    DecodeImageInto(sample.image, set.height(), set.width(), pixels);
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: {}", set.Describe(index), error.what()));
  }
  return sample.identity;
}

void AppendEncoded(const TrainingSet& set, const IdentityImages& images, std::int64_t identity,
                   std::vector<std::string>* encoded) {
  const auto at = static_cast<std::size_t>(identity);
  for (std::int64_t i = images.begin[at]; i < images.begin[at + 1]; ++i) {
    Sample sample;
    set.Read(images.images[static_cast<std::size_t>(i)], &sample);
    encoded->emplace_back(sample.image);
  }
}

SetLayout LayoutAt(const fs::path& path) {
  std::error_code error;
  if (const auto layout = FindSetLayout(path, &error)) return *layout;
  throw Error(ErrorCode::kNotFound,
              fmt::format("{}: {}; a training set is a directory with train.rec, train.idx and "
                          "property, or one with *.tar (or one such file), or one with a folder of "
                          "pictures for each identity",
                          path.string(), error ? error.message() : "holds no training set"));
}

std::unique_ptr<const TrainingSet> OpenTrainingSet(const fs::path& path) {
  switch (LayoutAt(path)) {
    case SetLayout::kRecords:
      return std::make_unique<RecordSet>(path);
    case SetLayout::kShards:
      return std::make_unique<TarSet>(
          path, static_cast<int>(std::max(1U, std::thread::hardware_concurrency())));
    case SetLayout::kFolder:
      break;
  }
  return std::make_unique<FolderSet>(path);
}

}  // namespace fr
