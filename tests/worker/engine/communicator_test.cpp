#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "common/base/error.h"
#include "worker/comm/mpi_communicator.h"

namespace fr {
namespace {

// What every rank contributes, which every rank can compute: numbers of many magnitudes, so that
// each order of adding them gives other bits.
std::vector<at::Tensor> AllContributions(int world, std::int64_t count, at::ScalarType type) {
  torch::manual_seed(count);
  std::vector<at::Tensor> all;
  for (int rank = 0; rank < world; ++rank) {
    all.push_back(at::randn({count}, type) * at::randn({count}, type).mul(4).exp());
  }
  return all;
}

at::Tensor SumInOrder(const std::vector<at::Tensor>& all) {
  at::Tensor sum = all[0].clone();
  for (std::size_t rank = 1; rank < all.size(); ++rank) sum = sum + all[rank];
  return sum;
}

// More than one piece of 4 MiB, uneven, at the last.
const std::vector<std::int64_t> kCounts = {1, 3, 1000, 1'500'001};

// Rank r contributes r + 1.
TEST(Communicator, Reduces) {
  MpiCommunicator comm;
  const int world = comm.world_size();
  at::Tensor sum = torch::full({5}, comm.rank() + 1.0, torch::kFloat32);
  at::Tensor max = sum.clone();
  comm.AllReduceSum(sum);
  comm.AllReduceMax(max);
  EXPECT_TRUE(torch::equal(sum, torch::full({5}, world * (world + 1) / 2.0, torch::kFloat32)));
  EXPECT_TRUE(torch::equal(max, torch::full({5}, 1.0 * world, torch::kFloat32)));
}

// Uneven rows, none at all among them; added in any order and in rank order.
TEST(Communicator, GathersAndScattersUnevenRows) {
  MpiCommunicator comm;
  std::vector<std::int64_t> rows;
  for (int rank = 0; rank < comm.world_size(); ++rank) rows.push_back((rank * 2 + 3) % 4);
  const std::int64_t total = std::accumulate(rows.begin(), rows.end(), std::int64_t{0});
  const std::int64_t before =
      std::accumulate(rows.begin(), rows.begin() + comm.rank(), std::int64_t{0});
  for (const auto type : {torch::kFloat32, torch::kFloat64}) {
    const at::Tensor all = torch::arange(total * 3, type).view({total, 3});
    const at::Tensor own = all.slice(0, before, before + rows[comm.rank()]).contiguous();
    EXPECT_TRUE(torch::equal(comm.AllGatherRows(own, rows), all));
    for (const bool deterministic : {false, true}) {
      comm.SetDeterministic(deterministic);
      EXPECT_TRUE(torch::equal(comm.ReduceScatterRows(all, rows), own * comm.world_size()));
    }
  }
}

TEST(Communicator, CarriesBytes) {
  MpiCommunicator comm;
  const std::string text(100'000, static_cast<char>('a' + comm.rank()));
  const int root = comm.world_size() - 1;
  EXPECT_EQ(comm.BroadcastBytes(text, root), std::string(100'000, static_cast<char>('a' + root)));
  const std::vector<std::string> gathered = comm.GatherBytes(text, 0);
  ASSERT_EQ(gathered.size(), comm.rank() == 0 ? comm.world_size() : 0U);
  for (std::size_t i = 0; i < gathered.size(); ++i)
    EXPECT_EQ(gathered[i][0], static_cast<char>('a' + i));
  EXPECT_EQ(comm.AllGather(comm.rank()).back(), root);
  EXPECT_EQ(comm.BroadcastBytes("", 0), "");
}

TEST(Communicator, CarriesBFloat16) {
  MpiCommunicator comm;
  const std::vector<std::int64_t> rows(comm.world_size(), 1);
  const at::Tensor own = at::full({1, 2}, comm.rank() + 0.5, at::kBFloat16);
  const at::Tensor all = comm.AllGatherRows(own, rows);
  for (int rank = 0; rank < comm.world_size(); ++rank) {
    EXPECT_EQ(all[rank][1].item<float>(), static_cast<float>(rank) + 0.5F);
  }
  at::Tensor root = own.clone();
  comm.Broadcast(root, comm.world_size() - 1);
  EXPECT_TRUE(torch::equal(root[0], all[comm.world_size() - 1]));
}

TEST(Communicator, RefusesWhatItCannotSend) {
  MpiCommunicator comm(MpiCommunicator::Self{});
  at::Tensor half = torch::zeros({2}, torch::kHalf);
  EXPECT_THROW(comm.AllReduceSum(half), Error);
  at::Tensor strided = torch::zeros({4, 4}).t();
  EXPECT_THROW(comm.Broadcast(strided, 0), Error);
  EXPECT_THROW(comm.AllGatherRows(torch::zeros({3, 2}), {2}), Error);
  EXPECT_THROW(comm.StartAllReduceSum(torch::zeros({2}, torch::kFloat64), Wire::kFloat32), Error);
  EXPECT_THROW(comm.StartAllReduceSum(strided, Wire::kFloat32), Error);
}

TEST(Communicator, DeterministicSumsAreTakenInRankOrder) {
  MpiCommunicator comm;
  comm.SetDeterministic(true);
  for (const auto type : {torch::kFloat32, torch::kFloat64}) {
    for (const std::int64_t count : kCounts) {
      const std::vector<at::Tensor> all = AllContributions(comm.world_size(), count, type);
      const at::Tensor expected = SumInOrder(all);
      at::Tensor sum = all[comm.rank()].clone();
      comm.AllReduceSum(sum);
      EXPECT_TRUE(torch::equal(sum, expected)) << count;
      if (count != 1000) continue;
      const std::vector<std::int64_t> rows = comm.AllGather(comm.rank() == 0 ? 1000 : 0);
      const at::Tensor scattered = comm.ReduceScatterRows(all[comm.rank()], rows);
      if (comm.rank() == 0) {
        EXPECT_TRUE(torch::equal(scattered, expected));
      }
    }
  }
}

// Several at a time, while the caller has collectives of its own.
TEST(Communicator, SumsBesideTheCaller) {
  MpiCommunicator comm;
  std::vector<at::Tensor> expected;
  std::vector<at::Tensor> sums;
  std::vector<std::unique_ptr<PendingCollective>> pending;
  for (const std::int64_t count : kCounts) {
    const auto all = AllContributions(comm.world_size(), count, at::kFloat);
    expected.push_back(SumInOrder(all));
    sums.push_back(all[comm.rank()].clone());
    pending.push_back(comm.StartAllReduceSum(sums.back(), Wire::kFloat32));
    at::Tensor ones = at::ones({1000});
    comm.AllReduceSum(ones);
    EXPECT_EQ(ones[999].item<float>(), static_cast<float>(comm.world_size()));
  }
  std::int64_t before = 0;
  for (std::size_t i = 0; i < pending.size(); ++i) {
    const TimeSpan span = pending[i]->Wait();
    EXPECT_TRUE(torch::equal(sums[i], expected[i])) << i;
    // One after the other, in the order of their starts.
    EXPECT_LE(before, span.begin_ns);
    EXPECT_LE(span.begin_ns, span.end_ns);
    before = span.end_ns;
    EXPECT_EQ(pending[i]->Wait().end_ns, span.end_ns);
  }
}

TEST(Communicator, WhatNobodyWaitsForTakesPlaceAllTheSame) {
  at::Tensor sum = at::ones({10});
  int world = 0;
  {
    MpiCommunicator comm;
    world = comm.world_size();
    comm.StartAllReduceSum(sum, Wire::kFloat32);
  }
  EXPECT_EQ(sum[9].item<float>(), static_cast<float>(world));
}

// LibTorch's own conversions say what rounding is.
at::Tensor Rounded(const at::Tensor& x) { return x.to(at::kBFloat16).to(at::kFloat); }

TEST(Communicator, HalfTheBytesKeepTheStatedBound) {
  MpiCommunicator comm;
  for (const std::int64_t count : kCounts) {
    const std::vector<at::Tensor> all = AllContributions(comm.world_size(), count, at::kFloat);
    at::Tensor sum = all[comm.rank()].clone();
    comm.StartAllReduceSum(sum, Wire::kBFloat16)->Wait();
    if (comm.world_size() == 1) {
      EXPECT_TRUE(torch::equal(sum, all[0]));
      continue;
    }
    std::vector<at::Tensor> rounded;
    at::Tensor exact = at::zeros({count}, at::kDouble);
    at::Tensor magnitude = at::zeros({count}, at::kDouble);
    for (const at::Tensor& part : all) {
      rounded.push_back(Rounded(part));
      exact += part.to(at::kDouble);
      magnitude += part.abs().to(at::kDouble);
    }
    EXPECT_TRUE(torch::equal(sum, Rounded(SumInOrder(rounded)))) << count;
    const at::Tensor bound = magnitude * (0x1p-7 * (1 + 0x1p-7)) + 0x1p-134 * (all.size() + 1);
    EXPECT_TRUE(((sum.to(at::kDouble) - exact).abs() <= bound).all().item<bool>()) << count;
  }
}

// A gradient that is not a number must be seen as such on every rank.
TEST(Communicator, HalfTheBytesCarryWhatIsNotFinite) {
  MpiCommunicator comm;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float nan = std::bit_cast<float>(0x7F800001U);  // all that says so is cut off
  at::Tensor sum = torch::zeros({3});
  if (comm.rank() == 0) sum = torch::tensor({nan, kInfinity, std::numeric_limits<float>::max()});
  comm.StartAllReduceSum(sum, Wire::kBFloat16)->Wait();
  EXPECT_TRUE(std::isnan(sum[0].item<float>()));
  EXPECT_EQ(sum[1].item<float>(), kInfinity);
  if (comm.world_size() > 1) {  // the nearest there is
    EXPECT_EQ(sum[2].item<float>(), kInfinity);
  }
}

// As a checkpoint is written while training goes on.
TEST(Communicator, ADuplicateIsForAnotherThread) {
  MpiCommunicator comm;
  comm.SetDeterministic(true);
  const std::unique_ptr<Communicator> other = comm.Duplicate();
  EXPECT_EQ(other->rank(), comm.rank());
  EXPECT_EQ(other->world_size(), comm.world_size());
  EXPECT_EQ(other->ranks_on_this_host(), comm.ranks_on_this_host());
  constexpr int kTimes = 20;
  std::vector<std::string> heard;
  std::vector<std::int64_t> gathered;
  std::thread thread([&] {
    for (int i = 0; i < kTimes; ++i) {
      const auto parts = other->GatherBytes(std::to_string(other->rank()), 0);
      heard.push_back(other->BroadcastBytes(parts.empty() ? "" : parts.back(), 0));
      gathered.push_back(other->AllGather(i).back());
      other->Barrier();
    }
  });
  at::Tensor total = at::zeros({1}, at::kDouble);
  for (int i = 0; i < kTimes; ++i) {
    at::Tensor one = at::ones({1}, at::kDouble);
    comm.AllReduceSum(one);
    total += one;
  }
  thread.join();
  EXPECT_EQ(total.item<double>(), kTimes * comm.world_size());
  EXPECT_EQ(heard, std::vector<std::string>(kTimes, std::to_string(comm.world_size() - 1)));
  EXPECT_EQ(gathered.back(), kTimes - 1);
  // All of it, and in rank order as the one it was made from.
  for (const std::int64_t count : kCounts) {
    const std::vector<at::Tensor> all = AllContributions(comm.world_size(), count, at::kFloat);
    at::Tensor sum = all[comm.rank()].clone();
    other->AllReduceSum(sum);
    EXPECT_TRUE(torch::equal(sum, SumInOrder(all)));
    other->SetDeterministic(false);
    at::Tensor largest = all[comm.rank()].clone();
    other->AllReduceMax(largest);
    EXPECT_TRUE(torch::equal(largest, at::stack(all).amax(0)));
    other->SetDeterministic(true);
  }
  const std::vector<std::int64_t> rows(comm.world_size(), 2);
  const at::Tensor full = at::ones({2 * comm.world_size(), 3});
  other->SetDeterministic(false);
  EXPECT_TRUE(torch::equal(other->ReduceScatterRows(full, rows),
                           at::full({2, 3}, comm.world_size(), at::kFloat)));
}

}  // namespace
}  // namespace fr
