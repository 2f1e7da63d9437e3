#pragma once
// The words that kernels are written in (worker/gpu/native/simt.h), on a processor: what a GPU's
// threads would do, one after the other on one thread, each on a stack of its own. For tests: it
// shows whether a kernel's arithmetic, its barriers and its addresses are right, not how fast it
// is.
//
// It is as unkind as a GPU may be: shared memory begins as NaN, and touching more of it than was
// asked for is an error; a copy from global memory arrives when it is waited for and not before;
// the threads of a block run from the first to the last or from the last to the first
// (SetReversed), each warp as far as it can without the others; and a barrier that some threads
// never come to is an error. The address sanitizer sees what kernels do to global memory.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "worker/gpu/gpu_stream.h"

// A program may have the kernels for GPUs beside these.
#define FR_GPU emulated_gpu
#define FR_GPU_NAME "emulated"
#define FR_KERNEL(threads, blocks_at_once) void
#define FR_UNROLL
#define FR_DEVICE inline

namespace fr::FR_GPU::simt {

struct Grid {
  std::int64_t x = 1;
  std::int64_t y = 1;
  std::int64_t z = 1;
};

int ThreadX();
int BlockThreads();
std::int64_t BlockX();
std::int64_t BlockY();
std::int64_t BlockZ();
std::int64_t BlocksX();
char* Shared();
void SyncThreads();

void CopyAsync16(void* shared, const void* global, bool valid);
void CommitCopies();
void WaitForCopies(int left);
template <int kLeft>
void WaitCopies() {
  WaitForCopies(kLeft);
}

// What every lane of the warp hands in, at most 32 bytes each; [lane] until the warp's next
// exchange.
const void* Exchange(const void* own, std::size_t size);
inline constexpr std::size_t kExchangeStride = 32;

template <class Value>
Value FromLane(const void* all, int lane) {
  Value value;
  std::memcpy(&value, static_cast<const char*>(all) + kExchangeStride * lane, sizeof(Value));
  return value;
}

template <class Value>
Value ShuffleXor(Value value, int mask) {
  return FromLane<Value>(Exchange(&value, sizeof(Value)), (ThreadX() % 32) ^ mask);
}
template <class Value>
Value ShuffleFrom(Value value, int lane) {
  return FromLane<Value>(Exchange(&value, sizeof(Value)), lane);
}

void LoadMatrices(std::uint32_t (&out)[4], const void* row);
void LoadMatricesTransposed(std::uint32_t (&out)[4], const void* row);
void MultiplyAdd(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1);

inline void AtomicAdd(unsigned long long* sum, unsigned long long value) { *sum += value; }
inline void AtomicMin(std::int32_t* lowest, std::int32_t value) {
  *lowest = std::min(*lowest, value);
}

inline float FromBf16(std::uint16_t bits) {
  const std::uint32_t word = static_cast<std::uint32_t>(bits) << 16U;
  float value = 0;
  std::memcpy(&value, &word, sizeof(value));
  return value;
}
inline std::uint16_t ToBf16(float value) {
  std::uint32_t word = 0;
  std::memcpy(&word, &value, sizeof(word));
  if (std::isnan(value)) return 0x7fff;
  return static_cast<std::uint16_t>((word + 0x7fffU + ((word >> 16U) & 1U)) >> 16U);
}
inline double Infinity() { return std::numeric_limits<double>::infinity(); }

// The last thread of a block goes first.
void SetReversed(bool reversed);

// Runs every block of the grid.
using BlockFunction = void (*)(const void* kernel, const void* work);
void RunGrid(const char* name, BlockFunction thread, const void* kernel, const void* work,
             Grid grid, int threads, int shared_bytes);

template <class Work>
void Launch(const char* name, void (*kernel)(Work), const Work& work, Grid grid, int threads,
            int shared_bytes, GpuStream) {
  RunGrid(
      name,
      [](const void* function, const void* argument) {
        (*static_cast<void (*const*)(Work)>(function))(*static_cast<const Work*>(argument));
      },
      &kernel, &work, grid, threads, shared_bytes);
}

}  // namespace fr::FR_GPU::simt
