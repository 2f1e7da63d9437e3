#pragma once
// Five points of every picture, from a file: what other detectors and the field's data sets give.

#include <filesystem>
#include <map>
#include <string>

#include "worker/data/images/similarity.h"

namespace fr {

// By the picture's path as the file has it, with '/' and relative to the folder of pictures.
using Landmarks = std::map<std::string, FacePoints>;

// Reads CSV lines
//   path,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5
// with or without a first line of titles (which begins with "path"), or lines of JSON
//   {"path": "s1/1.jpg", "points": [[x, y], [x, y], [x, y], [x, y], [x, y]]}
// in which further keys are passed over. Order of the points as in FacePoints. A path may hold
// commas; one that begins with a quotation mark is quoted as CSV quotes. Empty lines are passed
// over. Throws Error(kNotFound | kIo) for the file, Error(kInvalidArgument) as "file:line: ..." for
// the first line that is neither, has another number of values, points that are no numbers or those
// of no face (FitSimilarity), or a path that came before.
Landmarks ReadLandmarks(const std::filesystem::path& path);

}  // namespace fr
