#include "worker/data/picture_folder.h"

#include <algorithm>
#include <cctype>
#include <thread>

#include <fmt/format.h>

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

bool HasLesserName(const fs::path& a, const fs::path& b) {
  return NaturalLess(a.filename().string(), b.filename().string());
}

void ListPictures(const fs::path& folder, IdentityFolder* identity) {
  for (const fs::directory_entry& file : fs::directory_iterator(folder / identity->name)) {
    if (IsPictureName(file.path()) && file.is_regular_file()) {
      identity->pictures.push_back(file.path());
    }
  }
  std::sort(identity->pictures.begin(), identity->pictures.end(), HasLesserName);
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

std::vector<IdentityFolder> ListPictureFolder(const fs::path& folder) {
  std::vector<IdentityFolder> identities;
  try {
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
      if (entry.is_directory()) identities.push_back({entry.path().filename().string(), {}});
    }
    ParallelFor(
        std::ssize(identities), static_cast<int>(std::max(1U, std::thread::hardware_concurrency())),
        [&](std::int64_t i) { ListPictures(folder, &identities[static_cast<std::size_t>(i)]); });
  } catch (const fs::filesystem_error& error) {
    const bool missing = error.code() == std::errc::no_such_file_or_directory;
    throw Error(missing ? ErrorCode::kNotFound : ErrorCode::kIo,
                fmt::format("{}: {}", error.path1().string(), error.code().message()));
  }
  std::erase_if(identities, [](const IdentityFolder& one) { return one.pictures.empty(); });
  if (identities.empty()) {
    throw Error(
        ErrorCode::kNotFound,
        fmt::format("{}: holds no folders with pictures; IDENTITY/PICTURE.jpg (or png, pgm, "
                    "ppm) is expected",
                    folder.string()));
  }
  std::sort(identities.begin(), identities.end(),
            [](const auto& a, const auto& b) { return NaturalLess(a.name, b.name); });
  return identities;
}

}  // namespace fr
