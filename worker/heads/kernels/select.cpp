#include <cstdlib>
#include <cstring>
#include <string>

#include "common/base/error.h"
#include "worker/heads/kernels/head_kernels.h"

namespace fr {
namespace {

struct Choice {
  const HeadKernels* kernels;
  bool runs_here;
};

}  // namespace

const HeadKernels* FindHeadKernels(const char* name) {
  const Choice choices[] = {
#if defined(__x86_64__)
    {&kAvx512BF16HeadKernels,
     __builtin_cpu_supports("x86-64-v4") != 0 && __builtin_cpu_supports("avx512bf16") != 0},
    {&kAvx512HeadKernels, __builtin_cpu_supports("x86-64-v4") != 0},
    {&kAvx2HeadKernels, __builtin_cpu_supports("x86-64-v3") != 0},
#endif
    {&kPortableHeadKernels, true},
  };
  for (const Choice& choice : choices) {
    if (choice.runs_here && (name == nullptr || std::strcmp(name, choice.kernels->name) == 0)) {
      return choice.kernels;
    }
  }
  return nullptr;
}

const HeadKernels& SelectHeadKernels() {
  const char* asked = std::getenv("FR_HEAD_KERNELS");
  const HeadKernels* found = FindHeadKernels(asked);
  if (found == nullptr) {
    throw Error(ErrorCode::kInvalidArgument,
                std::string("FR_HEAD_KERNELS=") + asked +
                    ": not one of avx512_bf16, avx512, avx2, portable, or this processor cannot "
                    "run it");
  }
  return *found;
}

}  // namespace fr
