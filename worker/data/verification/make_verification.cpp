#include "worker/data/verification/make_verification.h"

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "common/base/checksum.h"
#include "common/base/error.h"
#include "common/base/file.h"
#include "worker/data/images/image.h"
#include "worker/data/prepare/set_fingerprint.h"
#include "worker/data/training_set.h"
#include "worker/data/verification/pairs_txt.h"
#include "worker/data/verification/verification_pairs.h"
#include "worker/data/verification/verification_set_writer.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

// Pairs, and how the images are come by that they name.
struct PairedImages {
  std::vector<VerificationPair> pairs;
  std::function<std::string(std::int64_t)> read;  // bytes as they are stored
  std::function<std::string(std::int64_t)> name;  // for messages
  std::string fingerprint;
};

// Throws Error(kInvalidArgument) that says what was looked for.
fs::path FindPicture(const fs::path& folder, const NamedPicture& picture, const fs::path& list,
                     std::int64_t line) {
  const std::string stem = fmt::format("{}_{:04}", picture.name, picture.number);
  for (const char* extension : {".jpg", ".jpeg", ".png", ".pgm", ".ppm", ".JPG", ".JPEG", ".PNG"}) {
    fs::path path = folder / picture.name / (stem + extension);
    if (fs::exists(path)) return path;
  }
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{}:{}: there is no picture {} (jpg, jpeg, png, pgm or ppm)",
                          list.string(), line, (folder / picture.name / stem).string()));
}

PairedImages FromList(const fs::path& folder, const fs::path& list) {
  std::vector<fs::path> pictures;
  std::map<std::pair<std::string, std::int64_t>, std::int64_t> known;
  std::vector<VerificationPair> pairs;
  for (const NamedPair& pair : ReadPairsTxt(list)) {
    const auto number = [&](const NamedPicture& picture) {
      const auto [at, is_new] =
          known.try_emplace({picture.name, picture.number}, std::ssize(pictures));
      if (is_new) pictures.push_back(FindPicture(folder, picture, list, pair.line));
      return at->second;
    };
    const std::int64_t first = number(pair.first);
    pairs.push_back({first, number(pair.second), pair.same});
  }
  const auto path = [pictures](std::int64_t i) { return pictures[static_cast<std::size_t>(i)]; };
  return {std::move(pairs), [path](std::int64_t i) { return ReadFile(path(i)); },
          [path](std::int64_t i) { return path(i).string(); },
          fmt::format("list {}", ChecksumOf(ReadFile(list)))};
}

PairedImages FromSet(const fs::path& directory, const MakeVerificationOptions& options) {
  const std::shared_ptr<const TrainingSet> set = OpenTrainingSet(directory);
  const auto grouped = std::make_shared<const IdentityImages>(set->ImagesByIdentity());
  const auto index = [grouped](std::int64_t i) {
    return static_cast<std::int64_t>(grouped->images[static_cast<std::size_t>(i)]);
  };
  const auto read = [set, index](std::int64_t i) {
    Sample sample;
    set->Read(index(i), &sample);
    return std::string(sample.image);
  };
  const auto name = [set, index](std::int64_t i) { return set->Describe(index(i)); };
  return {MakePairs(grouped->counts(), options.max_pairs, options.seed), read, name,
          "set " + FingerprintOf(*set)};
}

// The image as it goes into the set.
std::string Fit(std::string bytes, const std::string& name,
                const MakeVerificationOptions& options) {
  Image image;
  try {
    image = DecodeImage(bytes);
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: {}", name, error.what()));
  }
  const int side = options.side;
  const bool fits = image.height == side && image.width == side;
  const std::string_view extension = PictureExtension(bytes);
  if (fits && (extension == ".jpg" || extension == ".png")) return bytes;
  if (!fits && !options.resize) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: {} x {} pixels, where {} x {} are needed; align the pictures "
                            "first, or scale and crop them with --resize",
                            name, image.width, image.height, side, side));
  }
  return EncodeForSet(image, side);
}

}  // namespace

void MakeVerificationSet(const fs::path& source, const fs::path& out,
                         const MakeVerificationOptions& options) {
  const PairedImages images =
      options.pairs_txt.empty() ? FromSet(source, options) : FromList(source, options.pairs_txt);
  VerificationWriteOptions write;
  write.threads = options.threads;
  write.report = options.report;
  write.resume.fingerprint =
      fmt::format("pairs\n{}\n{} {} {} {}\n{}", fs::absolute(source).string(), options.max_pairs,
                  options.seed, options.side, options.resize, images.fingerprint);
  WriteVerificationSet(
      out, images.pairs,
      [&](std::int64_t i) { return Fit(images.read(i), images.name(i), options); }, write);
}

}  // namespace fr
