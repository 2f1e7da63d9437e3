#include "worker/data/pack.h"

#include <algorithm>
#include <cctype>
#include <mutex>
#include <string_view>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/parallel.h"
#include "common/base/random.h"
#include "worker/data/image.h"
#include "worker/data/record_set_writer.h"
#include "worker/data/verification_set.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

constexpr int kJpegQuality = 95;

struct IdentityFolder {
  std::string name;
  std::vector<fs::path> pictures;
};

std::size_t DigitsAt(std::string_view text, std::size_t at) {
  std::size_t end = at;
  while (end < text.size() && std::isdigit(static_cast<unsigned char>(text[end])) != 0) ++end;
  return end - at;
}

// Numbers in names count as numbers: s2 before s10.
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

std::vector<IdentityFolder> ListFolder(const fs::path& folder) {
  std::error_code error;
  std::vector<IdentityFolder> identities;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    if (!entry.is_directory()) continue;
    IdentityFolder identity{entry.path().filename().string(), {}};
    for (const fs::directory_entry& file : fs::directory_iterator(entry.path())) {
      if (file.is_regular_file() && IsPictureName(file.path()))
        identity.pictures.push_back(file.path());
    }
    std::sort(identity.pictures.begin(), identity.pictures.end(),
              [](const fs::path& a, const fs::path& b) {
                return NaturalLess(a.filename().string(), b.filename().string());
              });
    if (!identity.pictures.empty()) identities.push_back(std::move(identity));
  }
  if (error) {
    throw Error(ErrorCode::kNotFound, fmt::format("{}: {}", folder.string(), error.message()));
  }
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

// The picture as it goes into the set.
std::string LoadPicture(const fs::path& path, int side) {
  const std::string bytes = ReadFile(path);
  try {
    const Image image = DecodeImage(bytes);
    const bool fits = image.height == side && image.width == side;
    if (fits && bytes.starts_with("\xff\xd8")) return bytes;
    return EncodeJpeg(fits ? image : ResizeToCover(image, side, side), kJpegQuality);
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: {}", path.string(), error.what()));
  }
}

class Packer {
 public:
  explicit Packer(const PackOptions& options) : options_(options) {}

  std::vector<std::string> LoadIdentity(const IdentityFolder& identity) {
    std::vector<std::string> images(identity.pictures.size());
    std::mutex mutex;
    ParallelFor(std::ssize(images), options_.threads, [&](std::int64_t i) {
      const auto index = static_cast<std::size_t>(i);
      try {
        images[index] = LoadPicture(identity.pictures[index], options_.side);
      } catch (const Error& error) {
        if (!options_.skip_broken || error.code() != ErrorCode::kDataLoss) throw;
        const std::lock_guard lock(mutex);
        packed.broken.emplace_back(error.what());
      }
    });
    std::erase(images, "");
    return images;
  }

  void WriteTraining(const std::vector<IdentityFolder>& identities, const fs::path& directory) {
    RecordSetWriter writer(directory);
    std::string names;
    for (const IdentityFolder& identity : identities) {
      const std::vector<std::string> images = LoadIdentity(identity);
      if (images.empty()) continue;
      names += fmt::format("{}\t{}\n", writer.num_identities(), identity.name);
      writer.AddIdentity(images);
    }
    if (writer.num_images() == 0) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{}: no pictures are left to train on", directory.string()));
    }
    WriteFileAtomically(directory / "identities.txt", names);
    writer.Finish(options_.side, options_.side);
    packed.num_images = writer.num_images();
    packed.num_identities = writer.num_identities();
  }

  void WriteVerification(const std::vector<IdentityFolder>& identities, const fs::path& directory) {
    std::vector<std::string> images;
    std::vector<std::int64_t> counts;
    for (const IdentityFolder& identity : identities) {
      packed.held_out.push_back(identity.name);
      std::vector<std::string> own = LoadIdentity(identity);
      counts.push_back(std::ssize(own));
      std::move(own.begin(), own.end(), std::back_inserter(images));
    }
    const std::vector<VerificationPair> pairs =
        MakePairs(counts, options_.max_pairs, options_.seed);
    WriteVerificationSet(directory / (options_.verification_name + ".bin"), images, pairs);
    packed.num_pairs = std::ssize(pairs);
  }

  PackedSet packed;

 private:
  const PackOptions& options_;
};

// Takes `count` of the identities, drawn at random, out of the list; both stay in order.
std::vector<IdentityFolder> HoldOut(std::vector<IdentityFolder>* identities, std::int64_t count,
                                    std::uint64_t seed) {
  if (count >= std::ssize(*identities)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} identities cannot be held out of {}: at least one must be left to "
                            "train on",
                            count, identities->size()));
  }
  Random random(seed);
  std::vector<IdentityFolder> kept;
  std::vector<IdentityFolder> held_out;
  std::int64_t wanted = count;
  for (std::size_t i = 0; i < identities->size(); ++i) {
    const auto left = static_cast<std::int64_t>(identities->size() - i);
    const bool take = random.Below(left) < wanted;
    if (take) --wanted;
    (take ? held_out : kept).push_back(std::move((*identities)[i]));
  }
  *identities = std::move(kept);
  return held_out;
}

}  // namespace

PackedSet PackFolder(const fs::path& folder, const fs::path& directory,
                     const PackOptions& options) {
  std::vector<IdentityFolder> identities = ListFolder(folder);
  const std::vector<IdentityFolder> held_out =
      HoldOut(&identities, options.held_out_identities, options.seed);
  Packer packer(options);
  std::error_code error;
  fs::create_directories(directory, error);
  if (!held_out.empty()) packer.WriteVerification(held_out, directory);
  packer.WriteTraining(identities, directory);
  std::sort(packer.packed.broken.begin(), packer.packed.broken.end());
  return std::move(packer.packed);
}

}  // namespace fr
