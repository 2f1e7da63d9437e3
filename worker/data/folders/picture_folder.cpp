#include "worker/data/folders/picture_folder.h"

#include <algorithm>
#include <cctype>
#include <thread>

#include <fmt/format.h>

#include "common/base/checksum.h"
#include "common/base/error.h"
#include "common/base/parallel.h"
#include "worker/data/images/image.h"

namespace fr {

namespace fs = std::filesystem;

namespace {

// The digits at `*at`, which moves behind them, without leading zeros.
std::string_view TakeNumber(std::string_view text, std::size_t* at) {
  const std::size_t begin = *at;
  while (*at < text.size() && std::isdigit(static_cast<unsigned char>(text[*at])) != 0) ++*at;
  const std::string_view digits = text.substr(begin, *at - begin);
  return digits.substr(std::min(digits.find_first_not_of('0'), digits.size()));
}

bool IsDigitAt(std::string_view text, std::size_t at) {
  return std::isdigit(static_cast<unsigned char>(text[at])) != 0;
}

// What is listed of one identity.
struct Listing {
  IdentityFolder identity;
  std::uint64_t checksum = 0;
};

Listing ListIdentity(const fs::path& folder, const std::string& name) {
  Listing listing;
  listing.identity.name = name;
  std::vector<std::string>& pictures = listing.identity.pictures;
  for (const fs::directory_entry& file : fs::directory_iterator(folder / name)) {
    if (IsPictureName(file.path()) && file.is_regular_file()) {
      pictures.push_back(file.path().filename().string());
    }
  }
  std::sort(pictures.begin(), pictures.end(), NaturalLess);
  Checksum checksum;
  checksum.Update(name.c_str(), name.size() + 1);
  for (const std::string& picture : pictures) checksum.Update(picture.c_str(), picture.size() + 1);
  const auto changed = fs::last_write_time(folder / name).time_since_epoch().count();
  checksum.Update(&changed, sizeof(changed));
  listing.checksum = checksum.Value();
  return listing;
}

// In natural order.
std::vector<std::string> ListIdentityNames(const fs::path& folder) {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end(), NaturalLess);
  return names;
}

std::vector<Listing> ListIdentities(const fs::path& folder) {
  try {
    const std::vector<std::string> names = ListIdentityNames(folder);
    std::vector<Listing> listings(names.size());
    const auto threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
    ParallelFor(std::ssize(names), threads, [&](std::int64_t i) {
      const auto at = static_cast<std::size_t>(i);
      listings[at] = ListIdentity(folder, names[at]);
    });
    return listings;
  } catch (const fs::filesystem_error& error) {
    const bool missing = error.code() == std::errc::no_such_file_or_directory;
    throw Error(missing ? ErrorCode::kNotFound : ErrorCode::kIo,
                fmt::format("{}: {}", error.path1().string(), error.code().message()));
  }
}

}  // namespace

bool NaturalLess(std::string_view a, std::string_view b) {
  std::size_t i = 0;
  std::size_t j = 0;
  while (i < a.size() && j < b.size()) {
    if (IsDigitAt(a, i) && IsDigitAt(b, j)) {
      const std::string_view number_a = TakeNumber(a, &i);
      const std::string_view number_b = TakeNumber(b, &j);
      if (number_a.size() != number_b.size()) return number_a.size() < number_b.size();
      if (number_a != number_b) return number_a < number_b;
    } else {
      if (a[i] != b[j]) return a[i] < b[j];
      ++i;
      ++j;
    }
  }
  const std::size_t left_a = a.size() - i;
  const std::size_t left_b = b.size() - j;
  if (left_a != 0 || left_b != 0) return left_a < left_b;
  // The same but for leading zeros.
  return a.size() != b.size() ? a.size() < b.size() : a < b;
}

PictureFolder ListPictureFolder(const fs::path& folder) {
  PictureFolder listed;
  Checksum checksum;
  for (Listing& listing : ListIdentities(folder)) {
    checksum.Update(&listing.checksum, sizeof(listing.checksum));
    if (listing.identity.pictures.empty()) continue;
    listed.identities.push_back(std::move(listing.identity));
  }
  if (listed.identities.empty()) {
    throw Error(
        ErrorCode::kNotFound,
        fmt::format("{}: holds no folders with pictures; IDENTITY/PICTURE.jpg (or png, pgm, "
                    "ppm) is expected",
                    folder.string()));
  }
  listed.checksum = checksum.Value();
  return listed;
}

}  // namespace fr
