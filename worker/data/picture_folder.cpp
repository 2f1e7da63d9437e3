#include "worker/data/picture_folder.h"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>

#include "common/base/checksum.h"
#include "common/base/error.h"
#include "worker/data/image.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

std::size_t DigitsAt(std::string_view text, std::size_t at) {
  std::size_t end = at;
  while (end < text.size() && std::isdigit(static_cast<unsigned char>(text[end])) != 0) ++end;
  return end - at;
}

fs::directory_iterator Open(const fs::path& folder) {
  std::error_code error;
  fs::directory_iterator entries(folder, error);
  if (error) {
    throw Error(ErrorCode::kNotFound, fmt::format("{}: {}", folder.string(), error.message()));
  }
  return entries;
}

}  // namespace

bool NaturalLess(std::string_view a, std::string_view b) {
  std::size_t i = 0;
  std::size_t j = 0;
  while (i < a.size() && j < b.size()) {
    const std::size_t digits_a = DigitsAt(a, i);
    const std::size_t digits_b = DigitsAt(b, j);
    if (digits_a > 0 && digits_b > 0) {
      const std::string_view number_a = a.substr(i, digits_a);
      const std::string_view number_b = b.substr(j, digits_b);
      if (digits_a != digits_b) return digits_a < digits_b;
      if (number_a != number_b) return number_a < number_b;
      i += digits_a;
      j += digits_b;
    } else {
      if (a[i] != b[j]) return a[i] < b[j];
      ++i;
      ++j;
    }
  }
  return a.size() - i < b.size() - j;
}

std::vector<fs::path> ListPictures(const fs::path& folder) {
  std::vector<fs::path> pictures;
  for (const fs::directory_entry& file : Open(folder)) {
    if (file.is_regular_file() && IsPictureName(file.path())) pictures.push_back(file.path());
  }
  std::sort(pictures.begin(), pictures.end(), [](const fs::path& a, const fs::path& b) {
    return NaturalLess(a.filename().string(), b.filename().string());
  });
  return pictures;
}

PictureFolder ListPictureFolder(const fs::path& folder) {
  PictureFolder listed;
  for (const fs::directory_entry& entry : Open(folder)) {
    if (entry.is_directory()) listed.identities.push_back({entry.path().filename().string(), 0});
  }
  std::sort(listed.identities.begin(), listed.identities.end(),
            [](const auto& a, const auto& b) { return NaturalLess(a.name, b.name); });
  Checksum checksum;
  const auto add = [&checksum](const std::string& text) {
    checksum.Update(text.c_str(), text.size() + 1);
  };
  for (IdentityFolder& identity : listed.identities) {
    const fs::path path = folder / identity.name;
    for (const fs::path& picture : ListPictures(path)) {
      add((fs::path(identity.name) / picture.filename()).string());
      ++identity.num_pictures;
    }
    add(fmt::format("{}", fs::last_write_time(path).time_since_epoch().count()));
  }
  listed.checksum = checksum.Value();
  std::erase_if(listed.identities, [](const auto& identity) { return identity.num_pictures == 0; });
  if (listed.identities.empty()) {
    throw Error(
        ErrorCode::kNotFound,
        fmt::format("{}: holds no folders with pictures; IDENTITY/PICTURE.jpg (or png, pgm, "
                    "ppm) is expected",
                    folder.string()));
  }
  return listed;
}

}  // namespace fr
