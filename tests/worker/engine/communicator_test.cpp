#include "worker/comm/communicator.h"

#include <numeric>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/base/error.h"

namespace fr {
namespace {

// Rank r contributes r + 1.
TEST(Communicator, Reduces) {
  Communicator comm;
  const int world = comm.world_size();
  at::Tensor sum = torch::full({5}, comm.rank() + 1.0, torch::kFloat32);
  at::Tensor max = sum.clone();
  comm.AllReduceSum(sum);
  comm.AllReduceMax(max);
  EXPECT_TRUE(torch::equal(sum, torch::full({5}, world * (world + 1) / 2.0, torch::kFloat32)));
  EXPECT_TRUE(torch::equal(max, torch::full({5}, 1.0 * world, torch::kFloat32)));
}

// Uneven rows, none at all among them.
TEST(Communicator, GathersAndScattersUnevenRows) {
  Communicator comm;
  std::vector<std::int64_t> rows;
  for (int rank = 0; rank < comm.world_size(); ++rank) rows.push_back((rank * 2 + 3) % 4);
  const std::int64_t total = std::accumulate(rows.begin(), rows.end(), std::int64_t{0});
  const at::Tensor all = torch::arange(total * 3, torch::kFloat32).view({total, 3});
  const std::int64_t before =
      std::accumulate(rows.begin(), rows.begin() + comm.rank(), std::int64_t{0});
  const at::Tensor own = all.slice(0, before, before + rows[comm.rank()]).contiguous();
  EXPECT_TRUE(torch::equal(comm.AllGatherRows(own, rows), all));
  EXPECT_TRUE(torch::equal(comm.ReduceScatterRows(all, rows), own * comm.world_size()));
}

TEST(Communicator, CarriesBytes) {
  Communicator comm;
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

TEST(Communicator, RefusesWhatItCannotSend) {
  Communicator comm(Communicator::Self{});
  at::Tensor half = torch::zeros({2}, torch::kHalf);
  EXPECT_THROW(comm.AllReduceSum(half), Error);
  at::Tensor strided = torch::zeros({4, 4}).t();
  EXPECT_THROW(comm.Broadcast(strided, 0), Error);
  EXPECT_THROW(comm.AllGatherRows(torch::zeros({3, 2}), {2}), Error);
}

}  // namespace
}  // namespace fr
