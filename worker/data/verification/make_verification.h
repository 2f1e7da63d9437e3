#pragma once
// `fr-data pairs`: verification sets (NAME.bin) from folders of pictures and from training sets.

#include <cstdint>
#include <filesystem>

#include "common/base/work_report.h"

namespace fr {

struct MakeVerificationOptions {
  // LFW's list of pairs (pairs_txt.h); empty: pairs are drawn.
  std::filesystem::path pairs_txt;
  std::int64_t max_pairs = 6000;  // drawn
  std::uint64_t seed = 1;
  int side = 112;       // pixels
  bool resize = false;  // scale pictures of another size, and crop them, instead of ending
  int threads = 1;
  WorkReport report;  // images
};

// Writes `out` from `source`: SOURCE/NAME/NAME_0001.jpg (jpeg, png, pgm, ppm) with a list of pairs;
// without, SOURCE/IDENTITY/PICTURE or a training set. JPEG and PNG of the right size are kept byte
// by byte. Stopped, the same call goes on. Throws Error(kFailedPrecondition) if `out` is there,
// Error(kInvalidArgument) that names the line of the list for a picture that is not there, or the
// picture of another size; Error(kDataLoss) for one that cannot be read.
void MakeVerificationSet(const std::filesystem::path& source, const std::filesystem::path& out,
                         const MakeVerificationOptions& options);

}  // namespace fr
