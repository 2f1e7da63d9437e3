#pragma once
// What of fr-data needs LibTorch: engine/ has it, no_engine/ says that this build does not.

#include <string>

#include "worker/data/prepare/align_folder.h"

namespace fr {

// Finds the main face of a picture with MTCNN (MainFace); each caller's thread computes alone.
// `directory` is --mtcnn's, see MtcnnDirectory. Throws as Mtcnn; Error(kInvalidArgument) without
// the engine.
FindPoints OpenMtcnn(const std::string& directory);

// Text that tells these weights from others; throws as OpenMtcnn does.
std::string MtcnnFingerprint(const std::string& directory);

struct DedupeCommand {
  std::string set;
  std::string other;  // "": duplicates within `set`
  std::string model;
  double threshold = 0.7;
  std::string out;      // "": only report
  std::string report;   // "": none
  std::string centres;  // "": beside `out` or `report`
  std::string policy = "remove";
  int threads = 1;
  int batch = 64;
  bool skip_broken = false;
};

// Returns the exit code. Throws Error; Error(kInvalidArgument) without the engine.
int RunDedupe(const DedupeCommand& command);

}  // namespace fr
