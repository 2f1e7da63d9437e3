#include "worker/comm/gradient_reducer.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "common/base/error.h"
#include "worker/comm/mpi_communicator.h"
#include "worker/comm/recorder.h"

namespace fr {
namespace {

using Range = std::pair<std::int64_t, std::int64_t>;

constexpr std::int64_t kSize = 10'007;

// [0, kSize) cut at random places, in random order.
std::vector<Range> RandomRanges(std::mt19937& random) {
  std::vector<std::int64_t> cuts = {0, kSize};
  for (int i = 0; i < 40; ++i) cuts.push_back(static_cast<std::int64_t>(random() % kSize));
  std::sort(cuts.begin(), cuts.end());
  std::vector<Range> ranges;
  for (std::size_t i = 1; i < cuts.size(); ++i) ranges.emplace_back(cuts[i - 1], cuts[i]);
  std::shuffle(ranges.begin(), ranges.end(), random);
  return ranges;
}

// Notes how long each started all-reduce is.
class StartSpy : public RecordingCommunicator {
 public:
  using RecordingCommunicator::RecordingCommunicator;
  std::unique_ptr<PendingCollective> StartAllReduceSum(at::Tensor tensor, Wire wire) override {
    started.push_back(tensor.numel());
    return RecordingCommunicator::StartAllReduceSum(std::move(tensor), wire);
  }
  std::vector<std::int64_t> started;
};

// Each rank announces other ranges in another order; a range is written just before it is
// announced, as a backward pass does. Two steps, the second on top of what the first left.
TEST(GradientReducer, SumsWhateverTheOrderOfAnnouncements) {
  MpiCommunicator comm;
  comm.SetDeterministic(true);
  std::mt19937 random(static_cast<unsigned>(comm.rank()));
  for (const bool overlap : {true, false}) {
    for (const std::int64_t bucket_bytes : {400, 4'001, 40'000'000}) {
      at::Tensor gradients = at::zeros({kSize});
      GradientReducer reducer(gradients, comm, {bucket_bytes, overlap, Wire::kFloat32});
      for (int step = 0; step < 2; ++step) {
        torch::manual_seed(100 * step + comm.rank());
        const at::Tensor own = torch::randn({kSize});
        at::Tensor expected = own.clone();
        comm.AllReduceSum(expected);
        for (const auto& [begin, end] : RandomRanges(random)) {
          gradients.slice(0, begin, end).copy_(own.slice(0, begin, end));
          reducer.Ready(begin, end);
        }
        reducer.Finish();
        EXPECT_TRUE(torch::equal(gradients, expected)) << overlap << " " << bucket_bytes;
      }
    }
  }
}

// 10 elements in buckets of 4 floats: [6, 10), [2, 6), [0, 2).
TEST(GradientReducer, ABucketLeavesWhenItIsWhole) {
  MpiCommunicator comm;
  StartSpy spy(comm);
  GradientReducer reducer(at::ones({10}), spy, {16, true, Wire::kFloat32});
  using Started = std::vector<std::int64_t>;
  reducer.Ready(7, 10);
  EXPECT_EQ(spy.started, Started{});
  reducer.Ready(5, 7);
  EXPECT_EQ(spy.started, Started{4});
  // Whole, but not its turn: all ranks send in one order.
  reducer.Ready(0, 2);
  EXPECT_EQ(spy.started, Started{4});
  reducer.Ready(2, 5);
  EXPECT_EQ(spy.started, (Started{4, 4, 2}));
  reducer.Finish();
}

TEST(GradientReducer, WithoutOverlapThereIsOneMessage) {
  MpiCommunicator comm;
  StartSpy spy(comm);
  GradientReducer reducer(at::ones({10}), spy, {16, false, Wire::kFloat32});
  reducer.Ready(4, 10);
  reducer.Ready(0, 4);
  reducer.Finish();
  EXPECT_EQ(spy.started, std::vector<std::int64_t>{10});
}

// The wire is the communicator's; buckets of any size give its bits.
TEST(GradientReducer, HalfTheBytesGiveTheSameBitsInBucketsAndAtOnce) {
  MpiCommunicator comm;
  torch::manual_seed(comm.rank());
  const at::Tensor own = torch::randn({kSize});
  at::Tensor whole = own.clone();
  comm.StartAllReduceSum(whole, Wire::kBFloat16)->Wait();
  at::Tensor gradients = own.clone();
  GradientReducer reducer(gradients, comm, {1000, true, Wire::kBFloat16});
  reducer.Ready(0, kSize);
  reducer.Finish();
  EXPECT_TRUE(torch::equal(gradients, whole));
}

TEST(GradientReducer, EveryElementIsAnnouncedOnce) {
  MpiCommunicator self(MpiCommunicator::Self{});
  const auto code_of = [](const std::function<void()>& call) {
    try {
      call();
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode{};
  };
  const GradientReducerOptions options{16, true, Wire::kFloat32};
  for (const Range& twice : {Range{2, 4}, Range{3, 5}, Range{1, 3}, Range{0, 10}, Range{3, 4}}) {
    GradientReducer reducer(at::ones({10}), self, options);
    reducer.Ready(2, 4);
    EXPECT_EQ(code_of([&] { reducer.Ready(twice.first, twice.second); }), ErrorCode::kInternal);
  }
  GradientReducer reducer(at::ones({10}), self, options);
  EXPECT_EQ(code_of([&] { reducer.Ready(5, 11); }), ErrorCode::kInternal);
  EXPECT_EQ(code_of([&] { reducer.Ready(-1, 2); }), ErrorCode::kInternal);
  reducer.Ready(0, 9);
  EXPECT_EQ(code_of([&] { reducer.Finish(); }), ErrorCode::kInternal);
  EXPECT_EQ(code_of([&] {
              GradientReducer strided(at::ones({4, 4}), self, options);
            }),
            ErrorCode::kInvalidArgument);
}

TEST(GradientReducer, NothingToSumIsNoMessage) {
  MpiCommunicator comm;
  GradientReducer reducer(at::empty({0}), comm, {});
  reducer.Finish();
}

}  // namespace
}  // namespace fr
