#pragma once
// Loops that are compiled once for each instruction set: which of them this processor runs.

#include <cstdlib>
#include <cstring>
#include <string>

#include "common/base/error.h"

namespace fr {

// The same table of loops (with a `name`) for each instruction set, best first; all but the last
// are null where the program was not built for x86.
template <typename Kernels>
struct KernelSets {
  const Kernels* avx512_bf16 = nullptr;
  const Kernels* avx512 = nullptr;
  const Kernels* avx2 = nullptr;
  const Kernels* portable = nullptr;
};

// The best, or the one of that name (not null); nullptr where the processor cannot run it.
template <typename Kernels>
const Kernels* FindKernels(const KernelSets<Kernels>& sets, const char* name) {
  const auto fits = [name](const Kernels* kernels) {
    return kernels != nullptr && (name == nullptr || std::strcmp(name, kernels->name) == 0);
  };
#if defined(__x86_64__)
  const bool v4 = __builtin_cpu_supports("x86-64-v4") != 0;
  if (v4 && __builtin_cpu_supports("avx512bf16") != 0 && fits(sets.avx512_bf16)) {
    return sets.avx512_bf16;
  }
  if (v4 && fits(sets.avx512)) return sets.avx512;
  if (__builtin_cpu_supports("x86-64-v3") != 0 && fits(sets.avx2)) return sets.avx2;
#endif
  return fits(sets.portable) ? sets.portable : nullptr;
}

// As the environment variable `variable` asks, else the best. Throws Error(kInvalidArgument) for
// one that is not known or that the processor cannot run.
template <typename Kernels>
const Kernels& SelectKernels(const KernelSets<Kernels>& sets, const char* variable) {
  const char* asked = std::getenv(variable);
  const Kernels* found = FindKernels(sets, asked);
  if (found == nullptr) {
    throw Error(ErrorCode::kInvalidArgument,
                std::string(variable) + "=" + asked +
                    ": not one of avx512_bf16, avx512, avx2, portable, or this processor cannot "
                    "run it");
  }
  return *found;
}

}  // namespace fr
