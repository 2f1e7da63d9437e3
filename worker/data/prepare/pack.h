#pragma once
// `fr-data pack`: a folder of pictures, one subfolder an identity, as a data set in InsightFace's
// layout.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "common/base/work_report.h"
#include "worker/data/images/image.h"

namespace fr {

struct PackOptions {
  // So many identities, drawn by `seed`, are kept out of training and make NAME.bin.
  std::int64_t held_out_identities = 0;
  std::string verification_name = "heldout";
  std::int64_t max_pairs = 6000;
  std::uint64_t seed = 1;
  int side = 112;  // pixels; others are scaled until they cover the square, and cropped
  int threads = 1;
  bool skip_broken = false;  // leave pictures out that cannot be read, instead of ending

  // What is done with each decoded picture before it is scaled (aligning, cropping); empty:
  // nothing. Called by several threads. Error(kDataLoss) means that this picture is broken.
  std::function<Image(const std::filesystem::path&, Image)> prepare;
  std::string prepare_key;  // text of all that `prepare` depends on

  std::uint64_t checkpoint_bytes = std::uint64_t{64} << 20;  // see ResumeOptions
  WorkReport report;                                         // pictures
};

struct PackedSet {
  std::int64_t num_images = 0;
  std::int64_t num_identities = 0;
  std::int64_t num_pairs = 0;
  std::vector<std::string> held_out;  // names of the folders
  std::vector<std::string> broken;    // "path: cause", of those left out
};

// Packs `folder`/IDENTITY/PICTURE.{jpg,jpeg,png,pgm,ppm}, identities in the natural order of their
// names (s2 before s10), into `directory`; identities.txt beside it tells the name behind each
// label. JPEGs of the right size that are not prepared are kept byte by byte. A run that was
// stopped, at whatever instant, goes on when it is called again with the same options and the
// folder did not change, and makes the same files. Throws Error(kNotFound) for no such folder or
// none with pictures, Error(kDataLoss) naming a picture that cannot be read, and what
// RecordSetWriter and MakePairs throw.
PackedSet PackFolder(const std::filesystem::path& folder, const std::filesystem::path& directory,
                     const PackOptions& options);

}  // namespace fr
