#include "worker/data/picture_folder.h"

#include <algorithm>
#include <cctype>
#include <thread>

#include <fmt/format.h>

#include "common/base/checksum.h"
#include "common/base/error.h"
#include "common/base/parallel.h"
#include "worker/data/image.h"

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

// What `list` returns; the file system's failures become ours.
template <typename List>
auto Listing(const List& list) {
  try {
    return list();
  } catch (const fs::filesystem_error& error) {
    const bool missing = error.code() == std::errc::no_such_file_or_directory;
    throw Error(missing ? ErrorCode::kNotFound : ErrorCode::kIo,
                fmt::format("{}: {}", error.path1().string(), error.code().message()));
  }
}

std::vector<IdentityFolder> ListFolders(const fs::path& folder) {
  std::vector<IdentityFolder> identities;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.is_directory()) identities.push_back({entry.path().filename().string(), 0});
  }
  std::sort(identities.begin(), identities.end(),
            [](const auto& a, const auto& b) { return NaturalLess(a.name, b.name); });
  return identities;
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

std::vector<std::string> ListPictures(const fs::path& folder) {
  return Listing([&] {
    std::vector<std::string> pictures;
    for (const fs::directory_entry& file : fs::directory_iterator(folder)) {
      if (IsPictureName(file.path()) && file.is_regular_file()) {
        pictures.push_back(file.path().filename().string());
      }
    }
    std::sort(pictures.begin(), pictures.end(), NaturalLess);
    return pictures;
  });
}

PictureFolder ListPictureFolder(const fs::path& folder) {
  PictureFolder listed;
  listed.identities = Listing([&] { return ListFolders(folder); });
  std::vector<std::uint64_t> checksums(listed.identities.size());
  ParallelFor(
      std::ssize(checksums), static_cast<int>(std::max(1U, std::thread::hardware_concurrency())),
      [&](std::int64_t i) {
        IdentityFolder& identity = listed.identities[static_cast<std::size_t>(i)];
        std::string text = identity.name + '\0';
        for (const std::string& picture : ListPictures(folder / identity.name)) {
          text += picture + '\0';
          ++identity.num_pictures;
        }
        const auto changed = Listing([&] { return fs::last_write_time(folder / identity.name); });
        text += fmt::format("{}", changed.time_since_epoch().count());
        checksums[static_cast<std::size_t>(i)] = ChecksumOf(text);
      });
  listed.checksum = ChecksumOf(
      {reinterpret_cast<const char*>(checksums.data()), checksums.size() * sizeof(checksums[0])});
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
