#pragma once

namespace fr {

// A queue of work of a GPU, in order: a cudaStream_t, or nothing where kernels run at once.
using GpuStream = void*;

}  // namespace fr
