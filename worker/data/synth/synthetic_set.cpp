#include "worker/data/synth/synthetic_set.h"

#include <algorithm>
#include <string>
#include <vector>

#include "common/base/error.h"
#include "common/base/parallel.h"
#include "worker/data/synth/face.h"
#include "worker/data/record_set_writer.h"
#include "worker/data/verification_set.h"

namespace fr {
namespace {

// Identities drawn at a time: bounds the memory.
constexpr std::int64_t kIdentitiesAtATime = 64;
constexpr std::int64_t kHeldOutImages = 10;
// Held-out identities are numbered from here, so that they never meet trained ones.
constexpr std::int64_t kFirstHeldOut = std::int64_t{1} << 40;

std::string DrawJpeg(const FaceIdentity& who, Random& random) {
  const Image image = DrawFace(who, random);
  return EncodeJpeg(image, static_cast<int>(35 + random.Below(61)));
}

std::vector<std::string> DrawImages(std::uint64_t seed, std::int64_t identity,
                                    std::int64_t images) {
  const auto key = static_cast<std::uint64_t>(identity);
  Random of_identity(MixKeys(seed, key));
  const FaceIdentity who = DrawIdentity(of_identity);
  std::vector<std::string> jpegs;
  for (std::int64_t k = 0; k < images; ++k) {
    Random of_image(MixKeys(seed, key, static_cast<std::uint64_t>(k) + 1));
    jpegs.push_back(DrawJpeg(who, of_image));
  }
  return jpegs;
}

// Identities [first, first + count), in order.
std::vector<std::vector<std::string>> DrawIdentities(std::uint64_t seed, std::int64_t first,
                                                     std::int64_t count, std::int64_t images,
                                                     int threads) {
  std::vector<std::vector<std::string>> drawn(static_cast<std::size_t>(count));
  ParallelFor(count, threads, [&](std::int64_t i) {
    drawn[static_cast<std::size_t>(i)] = DrawImages(seed, first + i, images);
  });
  return drawn;
}

void WriteHeldOut(const std::filesystem::path& path, const SyntheticSetOptions& options) {
  std::vector<std::string> images;
  for (std::vector<std::string>& of_one :
       DrawIdentities(options.seed, kFirstHeldOut, options.held_out_identities, kHeldOutImages,
                      options.threads)) {
    std::move(of_one.begin(), of_one.end(), std::back_inserter(images));
  }
  const std::vector<std::int64_t> counts(static_cast<std::size_t>(options.held_out_identities),
                                         kHeldOutImages);
  WriteVerificationSet(path, images, MakePairs(counts, options.max_pairs, options.seed));
}

}  // namespace

void WriteSyntheticSet(const std::filesystem::path& directory, const SyntheticSetOptions& options) {
  if (options.identities < 1 || options.images_per_identity < 1 ||
      options.held_out_identities < 2) {
    throw Error(ErrorCode::kInvalidArgument,
                "at least one identity, one image of each and two held-out identities are needed");
  }
  RecordSetWriter writer(directory);
  WriteHeldOut(directory / "synth.bin", options);
  for (std::int64_t first = 0; first < options.identities; first += kIdentitiesAtATime) {
    const std::int64_t count = std::min(kIdentitiesAtATime, options.identities - first);
    for (const std::vector<std::string>& images :
         DrawIdentities(options.seed, first, count, options.images_per_identity, options.threads)) {
      writer.AddIdentity(images);
    }
  }
  writer.Finish(kFaceSide, kFaceSide);
}

}  // namespace fr
