#pragma once
// A block's part of a matrix product: 128 x 128 values of A B, in the registers of 256 threads.
// Operands go through shared memory in slices of 32 along the summed dimension, three slices ahead
// of the tensor cores (cp.async, ldmatrix, mma.m16n8k16: everything since compute capability 8.0).

#include <simt.h>

#include "worker/gpu/gpu_kernels.h"

namespace fr::FR_GPU {

inline constexpr int kProductThreads = 256;
inline constexpr int kSlice = 32;  // along the summed dimension
inline constexpr int kStages = 4;  // slices in shared memory
inline constexpr int kSide = static_cast<int>(kGpuBlock);
inline constexpr int kSliceValues = kSide * kSlice;
inline constexpr int kProductShared = kStages * 2 * kSliceValues * 2;  // bytes

// How an operand lies in memory: the summed dimension within a row, or from row to row.
enum class Along { kRow, kColumn };

// The block's side of an operand: values (i, k) with i from `begin`.
struct Side {
  const Bf16Bits* data = nullptr;
  std::int64_t plane_stride = 0;
  std::int64_t row_stride = 0;
  std::int64_t begin = 0;  // of i
  std::int64_t end = 0;    // of i: from here on values are zero
};

// Products of planes that count: what is left out is below float32's last bit. Small ones first.
inline constexpr int kPairs = 6;
FR_DEVICE int FirstPair(int planes) { return planes == 1 ? kPairs - 1 : 0; }
// By digits, which a register holds: (2, 0), (1, 1), (0, 2), (1, 0), (0, 1), (0, 0).
FR_DEVICE int PlaneOfA(int pair) { return 0x001012 >> 4 * pair & 3; }
FR_DEVICE int PlaneOfB(int pair) { return 0x010210 >> 4 * pair & 3; }

// Where the 8 values (i, 8 chunk ..) or (8 chunk .., k) lie in a slice, in values: neighbours that
// are read together lie in different banks.
FR_DEVICE int PlaceInRow(int i, int chunk) { return i * kSlice + ((chunk ^ ((i >> 1) & 3)) << 3); }
FR_DEVICE int PlaceInColumn(int k, int chunk) { return k * kSide + ((chunk ^ (k & 7)) << 3); }

// Begins to fetch values (begin .. begin + 127, k .. k + 31) of one plane.
template <Along kAlong>
FR_DEVICE void FetchSlice(Bf16Bits* slice, const Side& side, int plane, std::int64_t k,
                          std::int64_t k_end) {
  const Bf16Bits* data = side.data + plane * side.plane_stride;
  FR_UNROLL
  for (int part = 0; part < 2; ++part) {
    const int index = simt::ThreadX() + part * kProductThreads;
    if constexpr (kAlong == Along::kRow) {
      const int i = index >> 2;
      const int chunk = index & 3;
      const bool valid = side.begin + i < side.end && k + 8 * chunk < k_end;
      const std::int64_t row = valid ? side.begin + i : 0;
      const std::int64_t at = valid ? k + 8 * chunk : 0;
      simt::CopyAsync16(slice + PlaceInRow(i, chunk), data + row * side.row_stride + at, valid);
    } else {
      const int row = index >> 4;
      const int chunk = index & 15;
      const bool valid = k + row < k_end && side.begin + 8 * chunk < side.end;
      const std::int64_t at = valid ? (k + row) * side.row_stride + side.begin + 8 * chunk : 0;
      simt::CopyAsync16(slice + PlaceInColumn(row, chunk), data + at, valid);
    }
  }
}

// Rows i .. i + 15 of A, k .. k + 15 of the slice, as mma.m16n8k16 wants them.
template <Along kAlong>
FR_DEVICE void LoadA(std::uint32_t (&a)[4], const Bf16Bits* slice, int i, int k, int lane) {
  if constexpr (kAlong == Along::kRow) {
    simt::LoadMatrices(a, slice + PlaceInRow(i + (lane & 15), (k >> 3) + (lane >> 4)));
  } else {
    simt::LoadMatricesTransposed(a, slice + PlaceInColumn(k + (lane & 7) + ((lane >> 4) << 3),
                                                          (i >> 3) + ((lane >> 3) & 1)));
  }
}

// Columns j .. j + 15 of B: b[0], b[1] for the first eight, b[2], b[3] for the others.
template <Along kAlong>
FR_DEVICE void LoadB(std::uint32_t (&b)[4], const Bf16Bits* slice, int j, int k, int lane) {
  if constexpr (kAlong == Along::kRow) {
    simt::LoadMatrices(
        b, slice + PlaceInRow(j + (lane & 7) + ((lane >> 4) << 3), (k >> 3) + ((lane >> 3) & 1)));
  } else {
    simt::LoadMatricesTransposed(b, slice + PlaceInColumn(k + (lane & 15), (j >> 3) + (lane >> 4)));
  }
}

// A warp has 64 rows and 32 columns of the block's: values of thread `lane` are at rows
// RowOf(m, half), columns ColumnOf(n) and the next one.
struct Product {
  float value[4][4][4];

  static FR_DEVICE int FirstRow() { return (simt::ThreadX() / 32 % 2) * 64; }
  static FR_DEVICE int FirstColumn() { return (simt::ThreadX() / 64) * 32; }
  // value[m][n][2 half], [2 half + 1]
  static FR_DEVICE int RowOf(int m, int half) {
    return FirstRow() + 16 * m + (simt::ThreadX() % 32 >> 2) + 8 * half;
  }
  static FR_DEVICE int ColumnOf(int n) { return FirstColumn() + 8 * n + 2 * (simt::ThreadX() % 4); }

  FR_DEVICE void Clear() {
    FR_UNROLL
    for (auto& rows : value) {
      FR_UNROLL
      for (auto& columns : rows) {
        FR_UNROLL
        for (float& one : columns) one = 0;
      }
    }
  }

  template <Along kAlongA, Along kAlongB>
  FR_DEVICE void AddSlice(const Bf16Bits* a_slice, const Bf16Bits* b_slice) {
    const int lane = simt::ThreadX() % 32;
    FR_UNROLL
    for (int k = 0; k < kSlice; k += 16) {
      std::uint32_t a[4][4];
      std::uint32_t b[2][4];
      FR_UNROLL
      for (int m = 0; m < 4; ++m) LoadA<kAlongA>(a[m], a_slice, FirstRow() + 16 * m, k, lane);
      FR_UNROLL
      for (int n = 0; n < 2; ++n) LoadB<kAlongB>(b[n], b_slice, FirstColumn() + 16 * n, k, lane);
      FR_UNROLL
      for (int m = 0; m < 4; ++m) {
        FR_UNROLL
        for (int n = 0; n < 4; ++n) {
          simt::MultiplyAdd(value[m][n], a[m], b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]);
        }
      }
    }
  }

  // Adds the products over k in [k_begin, k_end). `shared` has kProductShared bytes; afterwards all
  // threads may use it for something else.
  template <Along kAlongA, Along kAlongB>
  FR_DEVICE void Add(const Side& a, const Side& b, int planes, std::int64_t k_begin,
                     std::int64_t k_end, char* shared) {
    auto* slices = reinterpret_cast<Bf16Bits*>(shared);
    const std::int64_t slices_each = (k_end - k_begin + kSlice - 1) / kSlice;
    const int first_pair = FirstPair(planes);
    const std::int64_t total = slices_each * (kPairs - first_pair);
    // What is fetched next; a division for each would cost more than these.
    int pair = first_pair;
    std::int64_t at = k_begin;
    const auto fetch = [&](std::int64_t slice) {
      if (slice < total) {
        Bf16Bits* to = slices + slice % kStages * 2 * kSliceValues;
        FetchSlice<kAlongA>(to, a, PlaneOfA(pair), at, k_end);
        FetchSlice<kAlongB>(to + kSliceValues, b, PlaneOfB(pair), at, k_end);
        at += kSlice;
        if (at >= k_end) {
          at = k_begin;
          ++pair;
        }
      }
      simt::CommitCopies();  // also nothing: groups are counted
    };
    for (int slice = 0; slice < kStages - 1; ++slice) fetch(slice);
    for (std::int64_t slice = 0; slice < total; ++slice) {
      simt::WaitCopies<kStages - 2>();
      simt::SyncThreads();  // everyone's part of the slice is there, and the oldest is read
      fetch(slice + kStages - 1);
      const Bf16Bits* from = slices + slice % kStages * 2 * kSliceValues;
      AddSlice<kAlongA, kAlongB>(from, from + kSliceValues);
    }
    simt::WaitCopies<0>();
    simt::SyncThreads();
  }
};

}  // namespace fr::FR_GPU
