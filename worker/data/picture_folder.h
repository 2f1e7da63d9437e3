#pragma once
// Folders of pictures as people have them: FOLDER/IDENTITY/PICTURE.{jpg,jpeg,png,pgm,ppm}.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace fr {

// Numbers in names count as numbers: s2 before s10.
bool NaturalLess(std::string_view a, std::string_view b);

// The pictures that lie in `folder` itself, in natural order. Throws Error(kNotFound).
std::vector<std::filesystem::path> ListPictures(const std::filesystem::path& folder);

struct IdentityFolder {
  std::string name;
  std::int64_t num_pictures = 0;
};

// Millions of pictures: their names are listed again when their turn comes.
struct PictureFolder {
  std::vector<IdentityFolder> identities;  // those with pictures, in natural order
  std::uint64_t checksum = 0;  // of all names, and of the time at which each folder last changed
};

// Throws Error(kNotFound) for no such folder, or none with pictures.
PictureFolder ListPictureFolder(const std::filesystem::path& folder);

}  // namespace fr
