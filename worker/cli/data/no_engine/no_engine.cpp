// fr-data where it is built without LibTorch.

#include "common/base/error.h"
#include "worker/cli/data/engine_commands.h"

namespace fr {

FindPoints OpenMtcnn(const std::string&) {
  throw Error(ErrorCode::kInvalidArgument,
              "this fr-data was built without LibTorch (FR_BUILD_ENGINE=OFF) and cannot run MTCNN: "
              "give the points with --landmarks FILE, or build it with LibTorch");
}

std::string MtcnnFingerprint(const std::string&) { return ""; }

int RunDedupe(const DedupeCommand&) {
  throw Error(ErrorCode::kInvalidArgument,
              "dedupe: this fr-data was built without LibTorch (FR_BUILD_ENGINE=OFF) and cannot "
              "run models: build it with LibTorch");
}

}  // namespace fr
