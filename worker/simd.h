#pragma once
// Marks a plain loop function to be compiled for several instruction sets, of which the processor's
// best is chosen when the program starts: a build for any x86-64 then loses nothing on a newer one.

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FR_SIMD_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FR_SIMD_CLONES
#endif
