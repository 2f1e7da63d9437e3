#pragma once
// The words that kernels are written in, on a GPU. tests/gpu_emulator/simt.h has the same for a
// processor. A kernel takes one struct by value.

#include <cstdint>
#include <string>

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "common/base/error.h"
#include "worker/gpu/gpu_stream.h"

// The kernels of this device, beside those of others in one program.
#define FR_GPU native_gpu
#define FR_GPU_NAME "cuda"
#define FR_KERNEL(threads, blocks_at_once) \
  __global__ void __launch_bounds__(threads, blocks_at_once)
#define FR_UNROLL _Pragma("unroll")
#define FR_DEVICE __device__ __forceinline__

namespace fr::FR_GPU::simt {

struct Grid {
  std::int64_t x = 1;
  std::int64_t y = 1;
  std::int64_t z = 1;
};

FR_DEVICE int ThreadX() { return static_cast<int>(threadIdx.x); }
FR_DEVICE int BlockThreads() { return static_cast<int>(blockDim.x); }
FR_DEVICE std::int64_t BlockX() { return blockIdx.x; }
FR_DEVICE std::int64_t BlockY() { return blockIdx.y; }
FR_DEVICE std::int64_t BlockZ() { return blockIdx.z; }
FR_DEVICE std::int64_t BlocksX() { return gridDim.x; }

// The block's shared memory, 16-byte aligned.
FR_DEVICE char* Shared() {
  extern __shared__ __align__(128) char shared_memory[];
  return shared_memory;
}

FR_DEVICE void SyncThreads() { __syncthreads(); }

// All 32 threads of a warp, together: the value of lane (own ^ mask), or of lane `lane`.
template <class Value>
FR_DEVICE Value ShuffleXor(Value value, int mask) {
  return __shfl_xor_sync(0xffffffffU, value, mask);
}
template <class Value>
FR_DEVICE Value ShuffleFrom(Value value, int lane) {
  return __shfl_sync(0xffffffffU, value, lane);
}

// 16 bytes from global to shared memory, beside what follows; zeros if not `valid`.
FR_DEVICE void CopyAsync16(void* shared, const void* global, bool valid) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(address), "l"(global),
               "r"(bytes)
               : "memory");
}
FR_DEVICE void CommitCopies() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
// Until at most `kLeft` of the own committed groups are under way.
template <int kLeft>
FR_DEVICE void WaitCopies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kLeft) : "memory");
}

// Four 8 x 8 matrices of 16-bit values, whose rows of 16 bytes lie where lanes 8 m .. 8 m + 7 of
// the warp say for matrix m: lane l gets row l / 4, columns 2 (l % 4) and the next one.
FR_DEVICE void LoadMatrices(std::uint32_t (&out)[4], const void* row) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address)
               : "memory");
}
// The same of the transposed matrices.
FR_DEVICE void LoadMatricesTransposed(std::uint32_t (&out)[4], const void* row) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address)
               : "memory");
}

// c [16][8] += a [16][16] b [16][8], bfloat16 with float32 sums: PTX mma.m16n8k16's fragments.
FR_DEVICE void MultiplyAdd(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                           std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

FR_DEVICE void AtomicAdd(unsigned long long* sum, unsigned long long value) {
  atomicAdd(sum, value);
}
FR_DEVICE void AtomicMin(std::int32_t* lowest, std::int32_t value) { atomicMin(lowest, value); }

// To nearest even.
FR_DEVICE std::uint16_t ToBf16(float value) {
  return __bfloat16_as_ushort(__float2bfloat16_rn(value));
}
FR_DEVICE float FromBf16(std::uint16_t bits) {
  return __uint_as_float(static_cast<std::uint32_t>(bits) << 16U);
}
FR_DEVICE double Infinity() { return __longlong_as_double(0x7ff0000000000000LL); }

inline void Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  throw Error(ErrorCode::kUnavailable,
              std::string("GPU kernel ") + what + ": " + cudaGetErrorString(error));
}

template <class Work>
void Launch(const char* name, void (*kernel)(Work), const Work& work, Grid grid, int threads,
            int shared_bytes, GpuStream stream) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (shared_bytes > 48 * 1024) {
    Check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                               cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes),
          name);
  }
  const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y),
                    static_cast<unsigned>(grid.z));
  kernel<<<blocks, threads, shared_bytes, static_cast<cudaStream_t>(stream)>>>(work);
  Check(cudaGetLastError(), name);
}

}  // namespace fr::FR_GPU::simt
