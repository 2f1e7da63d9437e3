// The emulated GPU itself (tests/gpu_emulator): it computes what a GPU would, and a kernel that
// would be wrong on one is wrong on it, too.

#include <array>
#include <cmath>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "simt.h"

namespace fr::FR_GPU {
namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

// For as long as it lives, the last thread of a block goes first.
class Reversed {
 public:
  explicit Reversed(bool reversed) { simt::SetReversed(reversed); }
  ~Reversed() { simt::SetReversed(false); }
  Reversed(const Reversed&) = delete;
  Reversed& operator=(const Reversed&) = delete;
};

float* SharedFloats() { return reinterpret_cast<float*>(simt::Shared()); }

struct GridWork {
  std::vector<int>* visits;  // [z][y][x][thread]
};
FR_KERNEL(64, 1) VisitKernel(const GridWork work) {
  const std::int64_t block = (simt::BlockZ() * 3 + simt::BlockY()) * simt::BlocksX();
  const std::int64_t at = (block + simt::BlockX()) * simt::BlockThreads() + simt::ThreadX();
  ++work.visits->at(static_cast<std::size_t>(at));
}

TEST(EmulatedGpu, EveryThreadOfEveryBlockRunsOnce) {
  std::vector<int> visits(5 * 3 * 2 * 64, 0);
  simt::Launch("visit", VisitKernel, GridWork{&visits}, {5, 3, 2}, 64, 0, nullptr);
  EXPECT_EQ(visits, std::vector<int>(visits.size(), 1));
  simt::Launch("visit", VisitKernel, GridWork{&visits}, {0, 3, 2}, 64, 0, nullptr);
  EXPECT_EQ(visits, std::vector<int>(visits.size(), 1)) << "a grid without blocks";
}

TEST(EmulatedGpuDeath, NoGpuTakesTooManyThreadsOrTooMuchSharedMemory) {
  std::vector<int> visits(2048);
  const auto launch = [&](int threads, int shared) {
    simt::Launch("visit", VisitKernel, GridWork{&visits}, {1, 1, 1}, threads, shared, nullptr);
  };
  EXPECT_DEATH(launch(1056, 0), "kernel visit: no GPU takes this launch");
  EXPECT_DEATH(launch(33, 0), "kernel visit: no GPU takes this launch");
  EXPECT_DEATH(launch(32, 228 * 1024), "kernel visit: no GPU takes this launch");
}

// ---- Barriers ----

struct ShiftWork {
  float* out;
  bool barrier;
};
// Reads what the thread before it wrote.
FR_KERNEL(64, 1) ShiftKernel(const ShiftWork work) {
  const int t = simt::ThreadX();
  SharedFloats()[t] = static_cast<float>(t);
  if (work.barrier) simt::SyncThreads();
  work.out[t] = SharedFloats()[t == 0 ? 0 : t - 1];
}

std::vector<float> Shift(bool barrier, bool reversed) {
  const Reversed order(reversed);
  std::vector<float> out(64);
  simt::Launch("shift", ShiftKernel, ShiftWork{out.data(), barrier}, {1, 1, 1}, 64, 256, nullptr);
  return out;
}

TEST(EmulatedGpu, AMissingBarrierShowsInOneOfTheTwoOrders) {
  std::vector<float> right(64);
  for (int t = 1; t < 64; ++t) right[static_cast<std::size_t>(t)] = static_cast<float>(t - 1);
  EXPECT_EQ(Shift(true, false), right);
  EXPECT_EQ(Shift(true, true), right);
  EXPECT_EQ(Shift(false, false), right) << "by luck: who is read from has been there";
  EXPECT_TRUE(std::isnan(Shift(false, true)[1])) << "shared memory is NaN before it is written";
}

struct SumsWork {
  float* out;  // [2]
  bool barrier_after_reading;
};
// Two sums over the block's two warps, in the same shared memory: of 1, and of 10.
FR_KERNEL(64, 1) SumsKernel(const SumsWork work) {
  for (int turn = 0; turn < 2; ++turn) {
    float sum = turn == 0 ? 1 : 10;
    for (int mask = 16; mask > 0; mask /= 2) sum += simt::ShuffleXor(sum, mask);
    if (simt::ThreadX() % 32 == 0) SharedFloats()[simt::ThreadX() / 32] = sum;
    simt::SyncThreads();
    if (simt::ThreadX() == 0) work.out[turn] = SharedFloats()[0] + SharedFloats()[1];
    if (work.barrier_after_reading) simt::SyncThreads();
  }
}

// Also if the other warp has a few shuffles before it.
TEST(EmulatedGpu, WritingOverWhatOthersStillReadShows) {
  const auto sums = [](bool barrier, bool reversed) {
    const Reversed order(reversed);
    std::vector<float> out(2);
    simt::Launch("sums", SumsKernel, SumsWork{out.data(), barrier}, {1, 1, 1}, 64, 8, nullptr);
    return out;
  };
  const std::vector<float> right{64, 640};
  EXPECT_EQ(sums(true, false), right);
  EXPECT_EQ(sums(true, true), right);
  EXPECT_TRUE(sums(false, false) != right || sums(false, true) != right);
}

struct NothingWork {};
FR_KERNEL(64, 1) HalfABarrierKernel(const NothingWork) {
  if (simt::ThreadX() < 40) simt::SyncThreads();
}
FR_KERNEL(64, 1) HalfAShuffleKernel(const NothingWork) {
  if (simt::ThreadX() < 40) simt::ShuffleXor(1, 1);
}

TEST(EmulatedGpuDeath, ABarrierThatSomeThreadsNeverReachIsAnError) {
  const auto launch = [](const char* name, void (*kernel)(NothingWork)) {
    simt::Launch(name, kernel, NothingWork{}, {1, 1, 1}, 64, 0, nullptr);
  };
  EXPECT_DEATH(launch("half_a_barrier", HalfABarrierKernel),
               "kernel half_a_barrier: threads wait for a barrier that others never come to");
  EXPECT_DEATH(launch("half_a_shuffle", HalfAShuffleKernel),
               "kernel half_a_shuffle: threads wait for a barrier that others never come to");
}

// ---- Shared memory ----

struct TouchWork {
  int float_at;
  float* read;  // null: written
};
FR_KERNEL(32, 1) TouchKernel(const TouchWork work) {
  if (simt::ThreadX() != 0) return;
  if (work.read == nullptr) {
    SharedFloats()[work.float_at] = 1;
  } else {
    *work.read = SharedFloats()[work.float_at];
  }
}

// Of 100 floats that a kernel asked for. With the address sanitizer a read is found, too; without
// it what is read is NaN.
TEST(EmulatedGpuDeath, SharedMemoryBeyondWhatWasAskedForIsAnError) {
  const auto touch = [](int at, float* read) {
    simt::Launch("touch", TouchKernel, TouchWork{at, read}, {2, 1, 1}, 32, 400, nullptr);
  };
  const char* error =
      kSanitized ? "use-after-poison" : "kernel touch: wrote beyond the shared memory it asked for";
  touch(99, nullptr);
  EXPECT_DEATH(touch(100, nullptr), error);
  EXPECT_DEATH(touch(50'000, nullptr), error);
  float value = 0;
  touch(99, &value);
  EXPECT_TRUE(std::isnan(value)) << "every block begins with NaN";
  if (kSanitized) {
    EXPECT_DEATH(touch(100, &value), error);
  } else {
    touch(100, &value);
    EXPECT_TRUE(std::isnan(value));
  }
}

// ---- Global memory ----

struct ReachWork {
  float* memory;
  int at;
};
FR_KERNEL(32, 1) ReachKernel(const ReachWork work) {
  simt::SyncThreads();
  if (simt::ThreadX() == 31) work.memory[work.at] += 1;
}

// A kernel's pointers are plain ones: the address sanitizer sees what a GPU would not tell.
TEST(EmulatedGpuDeath, TheAddressSanitizerFindsWhatIsOutOfBounds) {
  if (!kSanitized) GTEST_SKIP() << "not built with the address sanitizer";
  std::vector<float> memory(100);
  const auto reach = [&](int at) {
    simt::Launch("reach", ReachKernel, ReachWork{memory.data(), at}, {1, 1, 1}, 32, 0, nullptr);
  };
  reach(99);
  EXPECT_DEATH(reach(100), "heap-buffer-overflow");
  EXPECT_DEATH(reach(-1), "heap-buffer-overflow");
}

// ---- Copies beside the work ----

struct CopyWork {
  const float* in;  // 12 floats
  float* out;       // [3 moments][12]
};
// The last four floats are not `valid`.
FR_KERNEL(32, 1) CopyKernel(const CopyWork work) {
  if (simt::ThreadX() != 0) return;
  const auto note = [&](int moment) { std::copy_n(SharedFloats(), 12, work.out + moment * 12); };
  simt::CopyAsync16(SharedFloats(), work.in, true);
  simt::CommitCopies();
  simt::CopyAsync16(SharedFloats() + 4, work.in + 4, true);
  simt::CopyAsync16(SharedFloats() + 8, work.in + 8, false);
  simt::CommitCopies();
  note(0);
  simt::WaitCopies<1>();
  note(1);
  simt::WaitCopies<0>();
  note(2);
}

TEST(EmulatedGpu, CopiesArriveWhenTheyAreWaitedFor) {
  alignas(16) std::array<float, 12> in;
  std::iota(in.begin(), in.end(), 1.0F);
  std::vector<float> out(36);
  simt::Launch("copy", CopyKernel, CopyWork{in.data(), out.data()}, {1, 1, 1}, 32, 48, nullptr);
  const auto there = [&](int moment, int i) { return !std::isnan(out[moment * 12 + i]); };
  for (int i = 0; i < 12; ++i) {
    EXPECT_FALSE(there(0, i)) << "not waited for: " << i;
    EXPECT_EQ(there(1, i), i < 4) << "the older group alone: " << i;
    EXPECT_EQ(out[24 + i], i < 8 ? in[i] : 0.0F) << "zeros where not valid: " << i;
  }
}

struct OneCopyWork {
  const float* from;
  int to;  // in floats
  bool waits;
};
FR_KERNEL(32, 1) OneCopyKernel(const OneCopyWork work) {
  if (simt::ThreadX() != 0) return;
  simt::CopyAsync16(SharedFloats() + work.to, work.from, true);
  simt::CommitCopies();
  if (work.waits) simt::WaitCopies<0>();
}

TEST(EmulatedGpuDeath, ACopyMustBeAlignedInItsPlaceAndWaitedFor) {
  alignas(16) static const std::array<float, 8> in{};
  const auto copy = [](const float* from, int to, bool waits) {
    simt::Launch("one_copy", OneCopyKernel, OneCopyWork{from, to, waits}, {1, 1, 1}, 32, 64,
                 nullptr);
  };
  copy(in.data(), 12, true);
  const char* error = "kernel one_copy: a copy of 16 bytes to or from where it cannot be";
  EXPECT_DEATH(copy(in.data(), 1, true), error) << "not aligned";
  EXPECT_DEATH(copy(in.data() + 1, 0, true), error) << "from where it is not aligned";
  EXPECT_DEATH(copy(in.data(), 16, true), error) << "beyond the 64 bytes";
  EXPECT_DEATH(copy(in.data(), -4, true), error);
  EXPECT_DEATH(copy(in.data(), 0, false), "a thread ended with copies under way");
}

// ---- Warps ----

struct ShuffleWork {
  double* out;  // [2][64]
};
FR_KERNEL(64, 1) ShuffleKernel(const ShuffleWork work) {
  const int t = simt::ThreadX();
  double sum = t;
  for (int mask = 16; mask > 0; mask /= 2) sum += simt::ShuffleXor(sum, mask);
  work.out[t] = sum;
  work.out[64 + t] = simt::ShuffleFrom(100.0 * t, 5);
}

TEST(EmulatedGpu, ShufflesAreAmongTheLanesOfAWarp) {
  for (const bool reversed : {false, true}) {
    const Reversed order(reversed);
    std::vector<double> out(128);
    simt::Launch("shuffle", ShuffleKernel, ShuffleWork{out.data()}, {1, 1, 1}, 64, 0, nullptr);
    for (std::size_t t = 0; t < 64; ++t) {
      EXPECT_EQ(out[t], t < 32 ? 496 : 496 + 32 * 32) << t;
      EXPECT_EQ(out[64 + t], t < 32 ? 500 : 3700) << t;
    }
  }
}

// ---- Matrices ----
//
// Where values lie in the lanes' registers, as the PTX ISA has it ("Matrix fragments for
// mma.m16n8k16 with floating point type", "ldmatrix"): in groups of four lanes, two bfloat16 to a
// register, the first one in its low half.

struct Place {
  int row;
  int column;
};
Place OfA(int lane, int i) {  // a0 .. a7
  const bool upper = i < 2 || (i >= 4 && i < 6);
  return {upper ? lane / 4 : lane / 4 + 8, lane % 4 * 2 + (i & 1) + (i >= 4 ? 8 : 0)};
}
Place OfB(int lane, int i) {  // b0 .. b3
  return {lane % 4 * 2 + (i & 1) + (i >= 2 ? 8 : 0), lane / 4};
}
Place OfC(int lane, int i) {  // c0 .. c3
  return {i < 2 ? lane / 4 : lane / 4 + 8, lane % 4 * 2 + (i & 1)};
}

// Small whole numbers: exact as bfloat16, and so are their products' sums as float32.
float Small(int row, int column, int salt) {
  return static_cast<float>((row * 7 + column * 5 + salt * (row ^ column)) % 11 - 5);
}
std::uint32_t Pair(float low, float high) {
  return simt::ToBf16(low) | static_cast<std::uint32_t>(simt::ToBf16(high)) << 16U;
}

struct ProductWork {
  const std::uint32_t* a;  // [32][4]
  const std::uint32_t* b;  // [32][2]
  float* c;                // [32][4]
};
FR_KERNEL(32, 1) ProductKernel(const ProductWork work) {
  const int lane = simt::ThreadX();
  std::uint32_t a[4];
  float c[4];
  std::copy_n(work.a + 4 * lane, 4, a);
  std::copy_n(work.c + 4 * lane, 4, c);
  simt::MultiplyAdd(c, a, work.b[2 * lane], work.b[2 * lane + 1]);
  std::copy_n(c, 4, work.c + 4 * lane);
}

TEST(EmulatedGpu, MultiplyAddIsTheMatrixProductOfItsFragments) {
  std::vector<std::uint32_t> a;
  std::vector<std::uint32_t> b;
  std::vector<float> c;
  const auto value = [](Place at, int salt) { return Small(at.row, at.column, salt); };
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 8; i += 2) {
      a.push_back(Pair(value(OfA(lane, i), 1), value(OfA(lane, i + 1), 1)));
    }
    for (int i = 0; i < 4; i += 2) {
      b.push_back(Pair(value(OfB(lane, i), 2), value(OfB(lane, i + 1), 2)));
    }
    for (int i = 0; i < 4; ++i) c.push_back(value(OfC(lane, i), 3));
  }
  simt::Launch("product", ProductKernel, ProductWork{a.data(), b.data(), c.data()}, {1, 1, 1}, 32,
               0, nullptr);
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const Place at = OfC(lane, i);
      float product = value(at, 3);
      for (int k = 0; k < 16; ++k) product += Small(at.row, k, 1) * Small(k, at.column, 2);
      EXPECT_EQ(c[static_cast<std::size_t>(4 * lane + i)], product) << lane << " " << i;
    }
  }
}

struct MatricesWork {
  bool transposed;
  int first;           // of the rows, in 16-bit values: 0, or where it is no row's beginning
  std::uint32_t* out;  // [32][4]
};
// Four matrices of 8 x 8 values that are their own number: 64 m + 8 row + column. The rows lie in
// shared memory backwards, so that it matters whose address is used.
FR_KERNEL(32, 1) MatricesKernel(const MatricesWork work) {
  auto* shared = reinterpret_cast<std::uint16_t*>(simt::Shared());
  const int lane = simt::ThreadX();
  std::uint16_t* row = shared + 8 * (31 - lane);
  for (int column = 0; column < 8; ++column) {
    row[column] = static_cast<std::uint16_t>(8 * lane + column);
  }
  simt::SyncThreads();
  std::uint32_t out[4];
  if (work.transposed) {
    simt::LoadMatricesTransposed(out, row + work.first);
  } else {
    simt::LoadMatrices(out, row + work.first);
  }
  std::copy_n(out, 4, work.out + 4 * lane);
}

TEST(EmulatedGpu, MatricesAreLoadedAsTheirRowsOrTheirColumns) {
  for (const bool transposed : {false, true}) {
    std::vector<std::uint32_t> out(128);
    simt::Launch("matrices", MatricesKernel, MatricesWork{transposed, 0, out.data()}, {1, 1, 1}, 32,
                 512, nullptr);
    for (int lane = 0; lane < 32; ++lane) {
      for (int matrix = 0; matrix < 4; ++matrix) {
        const auto number = [&](int row, int column) {
          return transposed ? 64 * matrix + 8 * column + row : 64 * matrix + 8 * row + column;
        };
        const int low = number(lane / 4, lane % 4 * 2);
        const int high = number(lane / 4, lane % 4 * 2 + 1);
        EXPECT_EQ(out[static_cast<std::size_t>(4 * lane + matrix)],
                  static_cast<std::uint32_t>(low | high << 16))
            << "lane " << lane << ", matrix " << matrix << (transposed ? ", transposed" : "");
      }
    }
  }
}

TEST(EmulatedGpuDeath, AMatrixsRowMustBeAlignedSharedMemory) {
  std::vector<std::uint32_t> out(128);
  const auto load = [&](int first) {
    simt::Launch("matrices", MatricesKernel, MatricesWork{false, first, out.data()}, {1, 1, 1}, 32,
                 512, nullptr);
  };
  const char* error = "kernel matrices: a matrix's row of 16 bytes from where it cannot be";
  EXPECT_DEATH(load(1), error);
  EXPECT_DEATH(load(8), error) << "the row behind the last one";
}

// ---- bfloat16 ----

TEST(EmulatedGpu, Bf16IsRoundedToTheNearestEven) {
  const auto rounded = [](float value) { return simt::FromBf16(simt::ToBf16(value)); };
  EXPECT_EQ(rounded(1 + 0x1p-8F), 1.0F);
  EXPECT_EQ(rounded(1 + 0x1p-8F + 0x1p-20F), 1 + 0x1p-7F);
  EXPECT_EQ(rounded(1 + 3 * 0x1p-8F), 1 + 0x1p-6F);
  EXPECT_EQ(rounded(-INFINITY), -INFINITY);
  EXPECT_EQ(rounded(0x1.ffp127F), INFINITY);
  EXPECT_TRUE(std::isnan(rounded(NAN)));
}

}  // namespace
}  // namespace fr::FR_GPU
