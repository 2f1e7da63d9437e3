#include <cstdlib>
#include <cstring>
#include <string>

#include "common/base/error.h"
#include "worker/backbones/kernels/backbone_kernels.h"

namespace fr {
namespace {

struct Choice {
  const BackboneKernels* kernels;
  bool runs_here;
};

}  // namespace

const BackboneKernels* FindBackboneKernels(const char* name) {
  const Choice choices[] = {
#if defined(__x86_64__)
    {&kAvx512BF16BackboneKernels,
     __builtin_cpu_supports("x86-64-v4") != 0 && __builtin_cpu_supports("avx512bf16") != 0},
    {&kAvx512BackboneKernels, __builtin_cpu_supports("x86-64-v4") != 0},
    {&kAvx2BackboneKernels, __builtin_cpu_supports("x86-64-v3") != 0},
#endif
    {&kPortableBackboneKernels, true},
  };
  for (const Choice& choice : choices) {
    if (choice.runs_here && (name == nullptr || std::strcmp(name, choice.kernels->name) == 0)) {
      return choice.kernels;
    }
  }
  return nullptr;
}

const BackboneKernels& SelectBackboneKernels() {
  const char* asked = std::getenv("FR_BACKBONE_KERNELS");
  const BackboneKernels* found = FindBackboneKernels(asked);
  if (found == nullptr) {
    throw Error(ErrorCode::kInvalidArgument,
                std::string("FR_BACKBONE_KERNELS=") + asked +
                    ": not one of avx512_bf16, avx512, avx2, portable, or this processor cannot "
                    "run it");
  }
  return *found;
}

}  // namespace fr
