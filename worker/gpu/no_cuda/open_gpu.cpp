// Of builds without FR_CUDA.

#include "worker/gpu/open_gpu.h"

#include "common/base/error.h"

namespace fr {

bool HasGpuSupport() { return false; }

int CountGpus() { return 0; }

std::unique_ptr<Gpu> OpenGpu(int /*index*/, bool /*deterministic*/) {
  throw Error(ErrorCode::kFailedPrecondition, "this build has no GPU support");
}

std::string GpuIdentity(int /*index*/) { return ""; }

const NcclApi* NcclOrNull() { return nullptr; }

}  // namespace fr
