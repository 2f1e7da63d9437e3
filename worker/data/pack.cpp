#include "worker/data/pack.h"

#include <algorithm>
#include <mutex>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/parallel.h"
#include "common/base/random.h"
#include "worker/data/image.h"
#include "worker/data/picture_folder.h"
#include "worker/data/record_set_writer.h"
#include "worker/data/verification_set.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

constexpr int kJpegQuality = 95;

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
  std::vector<IdentityFolder> identities = ListPictureFolder(folder);
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
