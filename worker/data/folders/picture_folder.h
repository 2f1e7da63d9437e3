#pragma once
// A folder of pictures as people have them: FOLDER/IDENTITY/PICTURE.{jpg,jpeg,png,pgm,ppm}.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace fr {

// Numbers in names count as numbers: s2 before s10, and before s010.
bool NaturalLess(std::string_view a, std::string_view b);

struct IdentityFolder {
  std::string name;
  std::vector<std::string>
      pictures;  // names of the files in it; of 42 million they fit into memory

  std::int64_t num_pictures() const { return static_cast<std::int64_t>(pictures.size()); }
};

struct PictureFolder {
  std::vector<IdentityFolder> identities;
  // Of all names, and of the time at which each identity's folder last changed.
  std::uint64_t checksum = 0;
};

// The identities that have pictures, and the pictures of each, in the natural order of their names.
// Links are followed. Throws Error(kNotFound) for no such folder or none with pictures, Error(kIo)
// for one that cannot be read.
PictureFolder ListPictureFolder(const std::filesystem::path& folder);

}  // namespace fr
