// NcclCommunicator over an emulated NCCL, on a GPU whose memory is the processor's, beside the
// MpiCommunicator that would do the same there.

#include "worker/comm/nccl_communicator.h"

#include <chrono>
#include <cmath>
#include <future>
#include <limits>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "tests/worker/engine_gpu/emulated_nccl.h"
#include "tests/worker/engine_gpu/stub_gpu.h"
#include "worker/comm/mpi_communicator.h"
#include "worker/comm/rank_messages.h"

namespace fr {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Errors' texts, or nothing.
template <typename Call>
std::string ErrorOf(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

class NcclCommunicatorTest : public testing::Test {
 protected:
  NcclCommunicatorTest() { ResetNccl(); }

  std::unique_ptr<NcclCommunicator> New(CollectiveWatchOptions options = {}) {
    options.period = std::chrono::milliseconds(5);
    options.on_failure = [this](const Error& error) { told_.set_value(error.what()); };
    return std::make_unique<NcclCommunicator>(mpi_, mpi_.NewMessages(), gpu_, EmulatedNccl(),
                                              std::move(options));
  }

  // What `on_failure` was told; empty: nothing within a minute.
  std::string Told() {
    std::future<std::string> text = told_.get_future();
    if (text.wait_for(std::chrono::minutes(1)) != std::future_status::ready) return "";
    return text.get();
  }

  int rank() const { return mpi_.rank(); }
  int world() const { return mpi_.world_size(); }

  // What every rank contributes, which every rank can compute: numbers of many magnitudes, so that
  // each order of adding them gives other bits.
  std::vector<at::Tensor> AllContributions(std::int64_t count, at::ScalarType type) const {
    torch::manual_seed(count);
    std::vector<at::Tensor> all;
    for (int i = 0; i < world(); ++i) {
      all.push_back(at::randn({count}, type) * at::randn({count}, type).mul(4).exp());
    }
    return all;
  }

  // Of each kind that a sum takes.
  at::Tensor Numbers(at::IntArrayRef sizes, at::ScalarType type) const {
    torch::manual_seed(rank());
    return at::randint(0, 50, sizes, type);
  }

  StubGpu gpu_;
  MpiCommunicator mpi_;
  std::promise<std::string> told_;
};

at::Tensor SumInOrder(const std::vector<at::Tensor>& all) {
  at::Tensor sum = all[0].clone();
  for (std::size_t rank = 1; rank < all.size(); ++rank) sum = sum + all[rank];
  return sum;
}

const std::vector<at::ScalarType> kNumbers = {at::kFloat, at::kDouble, at::kLong, at::kByte};
// Fewer than ranks, uneven, even.
const std::vector<std::int64_t> kCounts = {0, 1, 3, 1000, 100'001, 120'000};

TEST_F(NcclCommunicatorTest, ReducesEveryType) {
  const auto comm = New();
  EXPECT_EQ(comm->rank(), rank());
  EXPECT_EQ(comm->world_size(), world());
  EXPECT_EQ(comm->ranks_on_this_host(), mpi_.ranks_on_this_host());
  for (const bool deterministic : {false, true}) {
    comm->SetDeterministic(deterministic);
    for (const at::ScalarType type : kNumbers) {
      const at::Tensor own = Numbers({7, 3}, type);
      at::Tensor sum = own.clone();
      at::Tensor expected_sum = own.clone();
      at::Tensor max = own.clone();
      at::Tensor expected_max = own.clone();
      comm->AllReduceSum(sum);
      mpi_.AllReduceSum(expected_sum);
      comm->AllReduceMax(max);
      mpi_.AllReduceMax(expected_max);
      EXPECT_TRUE(torch::equal(sum, expected_sum)) << type;
      EXPECT_TRUE(torch::equal(max, expected_max)) << type;
    }
  }
}

TEST_F(NcclCommunicatorTest, SumsAreNearTheExactOnes) {
  const auto comm = New();
  for (const std::int64_t count : kCounts) {
    const std::vector<at::Tensor> all = AllContributions(count, at::kFloat);
    at::Tensor exact = at::zeros({count}, at::kDouble);
    at::Tensor magnitude = at::zeros({count}, at::kDouble);
    for (const at::Tensor& part : all) {
      exact += part.to(at::kDouble);
      magnitude += part.abs().to(at::kDouble);
    }
    at::Tensor sum = all[rank()].clone();
    at::Tensor beside = sum.clone();
    comm->AllReduceSum(sum);
    comm->StartAllReduceSum(beside, Wire::kFloat32)->Wait();
    // p - 1 additions, each rounded by half a unit in the last place.
    const at::Tensor bound = magnitude * (0x1p-23 * world());
    EXPECT_TRUE(((sum.to(at::kDouble) - exact).abs() <= bound).all().item<bool>()) << count;
    EXPECT_TRUE(((beside.to(at::kDouble) - exact).abs() <= bound).all().item<bool>()) << count;
  }
}

TEST_F(NcclCommunicatorTest, DeterministicSumsAreTakenInRankOrder) {
  const auto comm = New();
  comm->SetDeterministic(true);
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    for (const std::int64_t count : kCounts) {
      const std::vector<at::Tensor> all = AllContributions(count, type);
      const at::Tensor expected = SumInOrder(all);
      at::Tensor sum = all[rank()].clone();
      comm->AllReduceSum(sum);
      EXPECT_TRUE(torch::equal(sum, expected)) << count;
      const std::vector<std::int64_t> rows = mpi_.AllGather(rank() == 0 ? count : 0);
      const at::Tensor scattered = comm->ReduceScatterRows(all[rank()], rows);
      if (rank() == 0) {
        EXPECT_TRUE(torch::equal(scattered, expected)) << count;
      }
      if (type == at::kDouble) continue;
      at::Tensor beside = all[rank()].clone();
      comm->StartAllReduceSum(beside, Wire::kFloat32)->Wait();
      EXPECT_TRUE(torch::equal(beside, expected)) << count;
    }
  }
}

// More than a piece of 16 Mi elements.
TEST_F(NcclCommunicatorTest, SumsInPieces) {
  if (world() > 2) return;  // for memory and time
  const auto comm = New();
  constexpr std::int64_t kCount = (std::int64_t{16} << 20) + 5;
  at::Tensor sum = at::arange(kCount, at::kInt).remainder(251).to(at::kFloat);
  const at::Tensor expected = sum * world();
  comm->StartAllReduceSum(sum, Wire::kBFloat16)->Wait();
  EXPECT_TRUE(torch::equal(sum, expected));
}

TEST_F(NcclCommunicatorTest, HalfTheBytesGiveTheBitsOfMpi) {
  const auto comm = New();
  for (const std::int64_t count : kCounts) {
    const std::vector<at::Tensor> all = AllContributions(count, at::kFloat);
    at::Tensor sum = all[rank()].clone();
    at::Tensor expected = sum.clone();
    comm->StartAllReduceSum(sum, Wire::kBFloat16)->Wait();
    mpi_.StartAllReduceSum(expected, Wire::kBFloat16)->Wait();
    EXPECT_TRUE(torch::equal(sum, expected)) << count;
    at::Tensor exact = at::zeros({count}, at::kDouble);
    at::Tensor magnitude = at::zeros({count}, at::kDouble);
    for (const at::Tensor& part : all) {
      exact += part.to(at::kDouble);
      magnitude += part.abs().to(at::kDouble);
    }
    const at::Tensor bound = magnitude * (0x1p-7 * (1 + 0x1p-7)) + 0x1p-134 * (world() + 1);
    EXPECT_TRUE(((sum.to(at::kDouble) - exact).abs() <= bound).all().item<bool>()) << count;
  }
}

TEST_F(NcclCommunicatorTest, HalfTheBytesCarryWhatIsNotFinite) {
  const auto comm = New();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  at::Tensor sum = torch::zeros({2});
  if (rank() == 0) sum = torch::tensor({std::numeric_limits<float>::quiet_NaN(), kInfinity});
  comm->StartAllReduceSum(sum, Wire::kBFloat16)->Wait();
  EXPECT_TRUE(std::isnan(sum[0].item<float>()));
  EXPECT_EQ(sum[1].item<float>(), kInfinity);
}

// Uneven rows, none at all of some ranks or of all; even ones.
TEST_F(NcclCommunicatorTest, GathersAndScattersRows) {
  const auto comm = New();
  std::vector<std::vector<std::int64_t>> plans(4, std::vector<std::int64_t>(world(), 0));
  for (int i = 0; i < world(); ++i) {
    plans[1][i] = 4;
    plans[2][i] = (i * 2 + 3) % 4;
    plans[3][i] = i == world() - 1 ? 5 : 0;
  }
  for (const std::vector<std::int64_t>& rows : plans) {
    const std::int64_t total = std::accumulate(rows.begin(), rows.end(), std::int64_t{0});
    const std::int64_t before =
        std::accumulate(rows.begin(), rows.begin() + rank(), std::int64_t{0});
    for (const at::ScalarType type :
         {at::kFloat, at::kDouble, at::kLong, at::kByte, at::kBFloat16}) {
      const at::Tensor all = at::arange(total * 3, at::kLong).view({total, 3}).to(type);
      const at::Tensor own = all.slice(0, before, before + rows[rank()]).contiguous();
      EXPECT_TRUE(torch::equal(comm->AllGatherRows(own, rows), all)) << type;
      if (type == at::kBFloat16) continue;
      for (const bool deterministic : {false, true}) {
        comm->SetDeterministic(deterministic);
        const at::Tensor sum = comm->ReduceScatterRows(all, rows);
        EXPECT_TRUE(torch::equal(sum, own * world())) << type;
        EXPECT_TRUE(torch::equal(sum, mpi_.ReduceScatterRows(all, rows))) << type;
      }
    }
  }
}

TEST_F(NcclCommunicatorTest, BroadcastsEveryType) {
  const auto comm = New();
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kLong, at::kByte, at::kBFloat16}) {
    for (int root = 0; root < world(); ++root) {
      at::Tensor tensor = at::full({3, 5}, rank() + 1, type);
      comm->Broadcast(tensor, root);
      EXPECT_TRUE(torch::equal(tensor, at::full({3, 5}, root + 1, type))) << type;
    }
  }
  at::Tensor nothing = at::empty({0});
  comm->Broadcast(nothing, 0);
}

TEST_F(NcclCommunicatorTest, CarriesBytesAndNumbersAsTheInnerOne) {
  const auto comm = New();
  const int before = NcclState().groups;
  EXPECT_EQ(comm->BroadcastBytes(std::to_string(rank()), world() - 1), std::to_string(world() - 1));
  EXPECT_EQ(comm->GatherBytes("x", 0).size(), rank() == 0 ? world() : 0U);
  EXPECT_EQ(comm->AllGather(rank()).back(), world() - 1);
  comm->Barrier();
  const std::unique_ptr<Communicator> other = comm->Duplicate();
  EXPECT_EQ(other->AllGather(rank()).front(), 0);
  EXPECT_EQ(NcclState().groups, before);
}

TEST_F(NcclCommunicatorTest, TensorsOnTheProcessorDoNotGoThroughNccl) {
  const auto comm = New();
  const int before = NcclState().groups;
  UseGpu(nullptr);  // so no tensor is on a GPU
  at::Tensor ones = at::ones({4});
  comm->AllReduceSum(ones);
  comm->AllReduceMax(ones);
  comm->StartAllReduceSum(ones, Wire::kFloat32)->Wait();
  comm->Broadcast(ones, 0);
  EXPECT_EQ(ones[0].item<float>(), static_cast<float>(world() * world()));
  const std::vector<std::int64_t> rows(world(), 1);
  const at::Tensor all = comm->AllGatherRows(at::ones({1, 2}), rows);
  EXPECT_TRUE(torch::equal(comm->ReduceScatterRows(all, rows), at::full({1, 2}, 1.0 * world())));
  EXPECT_EQ(NcclState().groups, before);
}

TEST_F(NcclCommunicatorTest, RefusesWhatItCannotSend) {
  const auto comm = New();
  at::Tensor half = torch::zeros({2}, torch::kHalf);
  EXPECT_THROW(comm->AllReduceSum(half), Error);
  EXPECT_THROW(comm->Broadcast(half, 0), Error);
  at::Tensor rounded = torch::zeros({2}, torch::kBFloat16);
  EXPECT_THROW(comm->AllReduceSum(rounded), Error);
  at::Tensor strided = torch::zeros({4, 4}).t();
  EXPECT_THROW(comm->Broadcast(strided, 0), Error);
  EXPECT_THROW(comm->StartAllReduceSum(strided, Wire::kFloat32), Error);
  EXPECT_THROW(comm->StartAllReduceSum(torch::zeros({2}, torch::kFloat64), Wire::kFloat32), Error);
  const std::vector<std::int64_t> rows(world(), 2);
  EXPECT_THROW(comm->AllGatherRows(torch::zeros({3, 2}), rows), Error);
  EXPECT_THROW(comm->ReduceScatterRows(torch::zeros({1, 2}), rows), Error);
  // None of these was a collective: all goes on.
  at::Tensor ones = at::ones({1});
  comm->AllReduceSum(ones);
  EXPECT_EQ(ones.item<float>(), static_cast<float>(world()));
}

// The sum begins after what the caller's stream had, and the caller's stream, never the host (which
// the stub would say), waits for it. Stream 0 is the caller's, 1 the one beside it.
TEST_F(NcclCommunicatorTest, OrdersItsStreamByEvents) {
  const auto comm = New();
  gpu_.TakeLog();
  at::Tensor ones = at::ones({8});
  const std::unique_ptr<PendingCollective> pending = comm->StartAllReduceSum(ones, Wire::kFloat32);
  EXPECT_THAT(gpu_.TakeLog(),
              ElementsAre("record 0", "hold back 1", "record 1", "keep for 1", "record 1"));
  EXPECT_EQ(gpu_.stream(), nullptr);
  const TimeSpan span = pending->Wait();
  EXPECT_THAT(gpu_.TakeLog(), ElementsAre("hold back 0"));
  EXPECT_LE(span.begin_ns, span.end_ns);
  EXPECT_EQ(pending->Wait().end_ns, span.end_ns);
  comm->AllReduceSum(ones);
  EXPECT_THAT(gpu_.TakeLog(), testing::Contains("record 0"));
}

TEST_F(NcclCommunicatorTest, EndsWithWhatIsUnderWay) {
  {
    const auto comm = New();
    comm->StartAllReduceSum(at::ones({10}), Wire::kFloat32);
  }
  EXPECT_EQ(NcclState().started, 2);
  EXPECT_EQ(NcclState().destroyed, 2);
  EXPECT_EQ(NcclState().aborted, 0);
}

// Peers may never come.
TEST_F(NcclCommunicatorTest, AnExceptionAbortsWhatIsUnderWay) {
  std::unique_ptr<PendingCollective> pending;
  try {
    const auto comm = New();
    gpu_.hangs = true;
    pending = comm->StartAllReduceSum(at::ones({10}), Wire::kFloat32);
    throw std::runtime_error("the loss is not a number");
  } catch (const std::runtime_error&) {
  }
  EXPECT_EQ(NcclState().aborted, 2);
  EXPECT_EQ(NcclState().destroyed, 0);
  EXPECT_THAT(ErrorOf([&] { pending->Wait(); }), HasSubstr("given up"));
  mpi_.Barrier();
}

TEST_F(NcclCommunicatorTest, SaysWhyItCannotStart) {
  NcclState().next_id = 7;
  const std::string text = ErrorOf([&] { New(); });
  EXPECT_THAT(text, HasSubstr("NCCL could not be started on rank " + std::to_string(rank())));
  EXPECT_THAT(text, HasSubstr(rank() == 0 ? "remote process exited" : "rank 0 says why"));
  EXPECT_EQ(NcclState().started, 0);
  mpi_.Barrier();
}

// The first names the collective, the rank and NCCL's reason; whatever comes later fails alike.
TEST_F(NcclCommunicatorTest, AFailureStays) {
  const auto comm = New();
  at::Tensor ones = at::ones({4});
  const auto pending = comm->StartAllReduceSum(at::ones({4}), Wire::kFloat32);
  NcclState().next_group = 7;
  const std::string text = ErrorOf([&] { comm->AllReduceSum(ones); });
  EXPECT_EQ(text, "all-reduce failed on rank " + std::to_string(rank()) +
                      ": NCCL reports: remote process exited");
  const std::vector<std::int64_t> rows(world(), 1);
  EXPECT_EQ(ErrorOf([&] { comm->AllReduceSum(ones); }), text);
  EXPECT_EQ(ErrorOf([&] { comm->AllReduceMax(ones); }), text);
  EXPECT_EQ(ErrorOf([&] { comm->StartAllReduceSum(ones, Wire::kBFloat16); }), text);
  EXPECT_EQ(ErrorOf([&] { comm->AllGatherRows(at::ones({1, 2}), rows); }), text);
  EXPECT_EQ(ErrorOf([&] { comm->ReduceScatterRows(at::ones({world(), 2}), rows); }), text);
  EXPECT_EQ(ErrorOf([&] { comm->Broadcast(ones, 0); }), text);
  EXPECT_EQ(ErrorOf([&] { comm->BroadcastBytes("", 0); }), text);
  EXPECT_EQ(ErrorOf([&] { comm->GatherBytes("", 0); }), text);
  EXPECT_EQ(ErrorOf([&] { comm->AllGather(1); }), text);
  EXPECT_EQ(ErrorOf([&] { comm->Barrier(); }), text);
  EXPECT_EQ(ErrorOf([&] { comm->Duplicate(); }), text);
  EXPECT_EQ(ErrorOf([&] { pending->Wait(); }), text);
  EXPECT_EQ(NcclState().aborted, 2);
  mpi_.Barrier();
}

TEST_F(NcclCommunicatorTest, HearsOfErrorsInTheBackground) {
  const auto comm = New();
  mpi_.Barrier();
  NcclState().background = 7;
  const std::string text = Told();
  EXPECT_THAT(text, HasSubstr("NCCL reports: remote process exited"));
  EXPECT_EQ(ErrorOf([&] { comm->Barrier(); }), text);
  EXPECT_EQ(NcclState().aborted, 2);
  mpi_.Barrier();
}

CollectiveWatchOptions SoonLate() {
  CollectiveWatchOptions options;
  // Long enough for a rank that has to wait for a processor between two calls.
  options.timeout = std::chrono::milliseconds(1000);
  return options;
}

// The others' calls return at once, and then their GPUs wait.
TEST_F(NcclCommunicatorTest, NamesTheRankForWhichGpusWait) {
  const int last = world() - 1;
  if (last == 0) return;
  CollectiveWatchOptions options = SoonLate();
  if (rank() == last) options.timeout = std::chrono::milliseconds(0);
  const auto comm = New(options);
  at::Tensor ones = at::ones({4});
  comm->AllReduceSum(ones);
  mpi_.Barrier();
  if (rank() < last) {
    NcclState().ignores = true;
    gpu_.hangs = true;
    const auto pending = comm->StartAllReduceSum(ones, Wire::kFloat32);
    const std::string text = Told();
    // After the start of NCCL and the first sum.
    EXPECT_THAT(text, HasSubstr("in collective 3 (all-reduce beside computation, 16 bytes)"));
    EXPECT_THAT(text, HasSubstr("rank " + std::to_string(last) + " has not come to it"));
    EXPECT_EQ(ErrorOf([&] { pending->Wait(); }), text);
    EXPECT_EQ(ErrorOf([&] { comm->AllReduceSum(ones); }), text);
    EXPECT_EQ(NcclState().aborted, 2);
  }
  mpi_.Barrier();
  EXPECT_EQ(NcclState().aborted, rank() < last ? 2 : 0);
}

// The others are stuck within the call, from which the abort frees them.
TEST_F(NcclCommunicatorTest, FreesACallThatIsStuck) {
  const int last = world() - 1;
  if (last == 0) return;
  CollectiveWatchOptions options = SoonLate();
  if (rank() == last) options.timeout = std::chrono::milliseconds(0);
  const auto comm = New(options);
  mpi_.Barrier();
  if (rank() < last) {
    at::Tensor ones = at::ones({4});
    const std::string text = ErrorOf([&] { comm->AllReduceSum(ones); });
    EXPECT_THAT(text, HasSubstr("in collective 2 (all-reduce, 16 bytes)"));
    EXPECT_THAT(text, HasSubstr("rank " + std::to_string(last) + " has not come to it"));
    EXPECT_EQ(Told(), text);
  }
  mpi_.Barrier();
}

}  // namespace
}  // namespace fr
