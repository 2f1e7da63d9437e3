#include "worker/data/folders/folder_set.h"

#include <algorithm>
#include <iterator>
#include <numeric>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "worker/data/folders/picture_folder.h"

namespace fr {

FolderSet::FolderSet(const std::filesystem::path& folder) : folder_(folder) {
  for (IdentityFolder& identity : ListPictureFolder(folder).identities) {
    names_.push_back(std::move(identity.name));
    begin_.push_back(num_images());
    std::move(identity.pictures.begin(), identity.pictures.end(), std::back_inserter(files_));
  }
  begin_.push_back(num_images());
  size_ = SizeOfFirstImage(*this);
}

std::int64_t FolderSet::IdentityOf(std::int64_t index) const {
  return std::upper_bound(begin_.begin(), begin_.end(), index) - begin_.begin() - 1;
}

std::filesystem::path FolderSet::PathOf(std::int64_t index) const {
  return folder_ / name(IdentityOf(index)) / files_[static_cast<std::size_t>(index)];
}

void FolderSet::Read(std::int64_t index, Sample* sample) const {
  sample->identity = IdentityOf(index);
  try {
    sample->owned = ReadFile(PathOf(index));
  } catch (const Error& error) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}; it could be listed when the set was opened", error.what()));
  }
  sample->image = sample->owned;
}

IdentityImages FolderSet::ImagesByIdentity() const {
  IdentityImages grouped{begin_, std::vector<std::uint32_t>(files_.size())};
  std::iota(grouped.images.begin(), grouped.images.end(), 0U);
  return grouped;
}

}  // namespace fr
