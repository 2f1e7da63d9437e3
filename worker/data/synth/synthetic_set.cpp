#include "worker/data/synth/synthetic_set.h"

#include <algorithm>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/parallel.h"
#include "worker/data/records/record_set_writer.h"
#include "worker/data/synth/face.h"
#include "worker/data/verification/verification_pairs.h"
#include "worker/data/verification/verification_set_writer.h"

namespace fr {
namespace {

// Identities drawn at a time: bounds the memory.
constexpr std::int64_t kIdentitiesAtATime = 64;
constexpr std::int64_t kHeldOutImages = 10;
// Held-out identities are numbered from here, so that they never meet trained ones.
constexpr std::int64_t kFirstHeldOut = std::int64_t{1} << 40;

FaceIdentity DrawWho(std::uint64_t seed, std::int64_t identity) {
  Random random(MixKeys(seed, static_cast<std::uint64_t>(identity)));
  return DrawIdentity(random);
}

std::string DrawJpeg(const FaceIdentity& who, std::uint64_t seed, std::int64_t identity,
                     std::int64_t image) {
  Random random(
      MixKeys(seed, static_cast<std::uint64_t>(identity), static_cast<std::uint64_t>(image) + 1));
  const Image face = DrawFace(who, random);
  return EncodeJpeg(face, static_cast<int>(35 + random.Below(61)));
}

std::vector<std::string> DrawImages(std::uint64_t seed, std::int64_t identity,
                                    std::int64_t images) {
  const FaceIdentity who = DrawWho(seed, identity);
  std::vector<std::string> jpegs;
  for (std::int64_t k = 0; k < images; ++k) jpegs.push_back(DrawJpeg(who, seed, identity, k));
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

std::string Fingerprint(const SyntheticSetOptions& options) {
  return fmt::format("synth {} {} {} {} {}", options.identities, options.images_per_identity,
                     options.seed, options.held_out_identities, options.max_pairs);
}

void WriteHeldOut(const std::filesystem::path& path, const SyntheticSetOptions& options) {
  const std::vector<std::int64_t> counts(static_cast<std::size_t>(options.held_out_identities),
                                         kHeldOutImages);
  const auto draw = [&options](std::int64_t image) {
    const auto seed = options.seed;
    const std::int64_t identity = kFirstHeldOut + image / kHeldOutImages;
    return DrawJpeg(DrawWho(seed, identity), seed, identity, image % kHeldOutImages);
  };
  WriteVerificationSet(path, MakePairs(counts, options.max_pairs, options.seed), draw,
                       {options.threads, true, {Fingerprint(options)}, {}});
}

}  // namespace

void WriteSyntheticSet(const std::filesystem::path& directory, const SyntheticSetOptions& options) {
  if (options.identities < 1 || options.images_per_identity < 1 ||
      options.held_out_identities < 2) {
    throw Error(ErrorCode::kInvalidArgument,
                "at least one identity, one image of each and two held-out identities are needed");
  }
  RecordSetWriter writer(directory, {Fingerprint(options)});
  writer.TellStart(options.report);
  if (writer.complete()) return;
  if (writer.place() == 0) WriteHeldOut(directory / "synth.bin", options);
  const std::int64_t total = options.identities * options.images_per_identity;
  for (std::int64_t first = writer.place(); first < options.identities;) {
    options.report.progress(first * options.images_per_identity, total);
    const std::int64_t count = std::min(kIdentitiesAtATime, options.identities - first);
    for (const std::vector<std::string>& images :
         DrawIdentities(options.seed, first, count, options.images_per_identity, options.threads)) {
      writer.AddIdentity(images);
    }
    first += count;
    if (writer.CheckpointDue()) writer.Checkpoint(first);
  }
  options.report.progress(total, total);
  writer.Finish(kFaceSide, kFaceSide);
}

}  // namespace fr
