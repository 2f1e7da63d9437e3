// The model of LibTorch's CUDA allocator, by hand.

#include <vector>

#include <gtest/gtest.h>

#include "common/plan/cuda_pool_model.h"

namespace fr {
namespace {

constexpr std::int64_t kMiB = 1 << 20;

TEST(CudaPoolModel, SmallTensorsShareSegmentsOfTwoMiB) {
  CudaPoolModel pool;
  const BufferPtr one = pool.New(1);
  EXPECT_EQ(pool.live(), 1);
  EXPECT_EQ(pool.resident(), 2 * kMiB);
  // 512 bytes are taken: 4,095 more of them fit, and not one beyond.
  std::vector<BufferPtr> others;
  for (int i = 0; i < 4095; ++i) others.push_back(pool.New(512));
  EXPECT_EQ(pool.resident(), 2 * kMiB);
  others.push_back(pool.New(1));
  EXPECT_EQ(pool.resident(), 4 * kMiB);
}

TEST(CudaPoolModel, LargerOnesShareTwentyMiBAndTheLargestHaveTheirOwn) {
  CudaPoolModel pool;
  const BufferPtr first = pool.New(9 * kMiB);
  EXPECT_EQ(pool.resident(), 20 * kMiB);
  const BufferPtr second = pool.New(9 * kMiB);
  EXPECT_EQ(pool.resident(), 20 * kMiB);
  const BufferPtr third = pool.New(9 * kMiB);  // 2 MiB were left
  EXPECT_EQ(pool.resident(), 40 * kMiB);
  const BufferPtr large = pool.New(11 * kMiB);  // 11 MiB are free, in the segment of `third`
  EXPECT_EQ(pool.resident(), 40 * kMiB);
  const BufferPtr own = pool.New(33 * kMiB);
  EXPECT_EQ(pool.resident(), 74 * kMiB);
}

TEST(CudaPoolModel, KeepsWhatIsFreedAndTakesTheSmallestThatFits) {
  CudaPoolModel pool;
  BufferPtr large = pool.New(40 * kMiB);
  BufferPtr middle = pool.New(20 * kMiB);
  large.reset();
  middle.reset();
  EXPECT_EQ(pool.live(), 0);
  EXPECT_EQ(pool.resident(), 60 * kMiB);
  const BufferPtr again = pool.New(20 * kMiB);  // of the 20, so that the 40 stay whole
  const BufferPtr whole = pool.New(40 * kMiB);
  EXPECT_EQ(pool.resident(), 60 * kMiB);
  EXPECT_EQ(pool.peak_resident(), 60 * kMiB);
}

TEST(CudaPoolModel, FreeNeighboursJoin) {
  CudaPoolModel pool;
  BufferPtr a = pool.New(5 * kMiB);
  BufferPtr b = pool.New(5 * kMiB);
  BufferPtr c = pool.New(5 * kMiB);
  a.reset();
  c.reset();
  b.reset();
  const BufferPtr whole = pool.New(20 * kMiB);
  EXPECT_EQ(pool.resident(), 20 * kMiB);
}

// A rest of a large block is of use to large tensors alone: up to 1 MiB it stays with the tensor.
TEST(CudaPoolModel, SmallRestsOfLargeBlocksAreNotSplitOff) {
  CudaPoolModel pool;
  BufferPtr block = pool.New(12 * kMiB);
  block.reset();
  block = pool.New(11 * kMiB);
  const BufferPtr other = pool.New(kMiB + 512);
  EXPECT_EQ(pool.resident(), (12 + 20) * kMiB);
}

TEST(CudaPoolModel, NothingTakesNothing) {
  CudaPoolModel pool;
  const BufferPtr none = pool.New(0);
  EXPECT_EQ(pool.resident(), 0);
}

TEST(CudaTensorBytes, RoundsAsTheAllocator) {
  EXPECT_EQ(CudaTensorBytes(0), 0);
  EXPECT_EQ(CudaTensorBytes(1), 512);
  EXPECT_EQ(CudaTensorBytes(3 * kMiB + 1), 3 * kMiB + 512);
  EXPECT_EQ(CudaTensorBytes(11 * kMiB), 12 * kMiB);
}

}  // namespace
}  // namespace fr
