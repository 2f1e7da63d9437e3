#include "worker/backbones/kernels/backbone_kernels.h"
#include "worker/kernel_sets.h"

namespace fr {
namespace {

constexpr KernelSets<BackboneKernels> kSets = {
#if defined(__x86_64__)
    .avx512_bf16 = &kAvx512BF16BackboneKernels,
    .avx512 = &kAvx512BackboneKernels,
    .avx2 = &kAvx2BackboneKernels,
#endif
    .portable = &kPortableBackboneKernels};

}  // namespace

const BackboneKernels* FindBackboneKernels(const char* name) { return FindKernels(kSets, name); }

// Asked for by every step of every pass: looked up once.
const BackboneKernels& SelectBackboneKernels() {
  static const BackboneKernels& chosen = SelectKernels(kSets, "FR_BACKBONE_KERNELS");
  return chosen;
}

}  // namespace fr
