#pragma once
// `fr-data align`: a folder of photographs as a folder of aligned faces.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/base/work_report.h"
#include "worker/data/images/image.h"
#include "worker/data/images/landmarks.h"
#include "worker/data/images/similarity.h"

namespace fr {

// The five points of the face that a picture is of; nothing if it shows none. `path` is
// "IDENTITY/PICTURE.jpg". Several threads call at a time.
using FindPoints =
    std::function<std::optional<FacePoints>(const std::string& path, const Image& image)>;

// Those of a file.
FindPoints PointsOf(Landmarks landmarks);

struct AlignOptions {
  int side = 112;  // pixels
  int threads = 1;
  WorkReport report;  // pictures
};

struct AlignedFolder {
  std::int64_t aligned = 0;
  std::int64_t kept = 0;             // were there from an earlier run
  std::vector<std::string> no_face;  // paths
  std::vector<std::string> broken;   // "path: cause"
};

// The face of the picture, aligned, or nothing if `find` finds none.
std::optional<Image> AlignPicture(const FindPoints& find, const std::string& path,
                                  const Image& image, int side);

// Writes the face of every `folder`/IDENTITY/PICTURE as `out`/IDENTITY/PICTURE.jpg, `side` x `side`
// pixels; PICTURE.png.jpg if another picture would have the same name. Faces that are there whole,
// of that size, are kept: a run that was stopped goes on when it is called again. One run at a
// time. Pictures without a face are listed in `out`/no_face.txt, broken ones with their cause in
// `out`/broken.txt; files without a line are removed. Throws Error(kNotFound) for a folder without
// pictures, Error(kInvalidArgument) for an `out` inside `folder` or the other way round,
// Error(kIo).
AlignedFolder AlignFolder(const std::filesystem::path& folder, const std::filesystem::path& out,
                          const FindPoints& find, const AlignOptions& options);

}  // namespace fr
