#pragma once
// A folder of pictures: FOLDER/IDENTITY/PICTURE.{jpg,jpeg,png,pgm,ppm}.

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace fr {

struct IdentityFolder {
  std::string name;
  std::vector<std::filesystem::path> pictures;
};

// Numbers in names count as numbers: s2 before s10, and before s010.
bool NaturalLess(std::string_view a, std::string_view b);

// The identities that have pictures, and the pictures of each, in the natural order of their names.
// Links are followed. Throws Error(kNotFound) for no such folder or none with pictures, Error(kIo)
// for one that cannot be read.
std::vector<IdentityFolder> ListPictureFolder(const std::filesystem::path& folder);

}  // namespace fr
