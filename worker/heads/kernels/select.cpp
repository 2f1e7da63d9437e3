#include "worker/heads/kernels/head_kernels.h"
#include "worker/kernel_sets.h"

namespace fr {
namespace {

constexpr KernelSets<HeadKernels> kSets = {
#if defined(__x86_64__)
    .avx512_bf16 = &kAvx512BF16HeadKernels,
    .avx512 = &kAvx512HeadKernels,
    .avx2 = &kAvx2HeadKernels,
#endif
    .portable = &kPortableHeadKernels};

}  // namespace

const HeadKernels* FindHeadKernels(const char* name) { return FindKernels(kSets, name); }

const HeadKernels& SelectHeadKernels() { return SelectKernels(kSets, "FR_HEAD_KERNELS"); }

}  // namespace fr
