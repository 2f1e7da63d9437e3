#pragma once
// NCCL itself. Only in builds with FR_CUDA.

#include "worker/comm/nccl_api.h"

namespace fr {

const NcclApi& NcclLibrary();

}  // namespace fr
