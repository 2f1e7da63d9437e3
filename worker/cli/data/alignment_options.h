#pragma once
// Where faces are in pictures, as align and pack are told: --landmarks FILE or --mtcnn DIR.

#include <string>

#include <CLI/CLI.hpp>

#include "worker/data/prepare/align_folder.h"

namespace fr {

struct AlignmentOptions {
  std::string landmarks;  // "": MTCNN finds them
  std::string mtcnn;      // "": FR_MTCNN, or the user's data directory

  bool given() const { return !landmarks.empty() || !mtcnn.empty(); }

  // What finds the points, and text that tells it from others. Throws what ReadLandmarks and
  // OpenMtcnn throw.
  FindPoints Open() const;
  std::string Fingerprint() const;
};

void AddAlignmentOptions(CLI::App* command, AlignmentOptions* options);

}  // namespace fr
