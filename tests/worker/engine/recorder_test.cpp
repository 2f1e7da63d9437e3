#include "worker/comm/recorder.h"

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "common/base/error.h"
#include "worker/comm/mpi_communicator.h"

namespace fr {
namespace {

CollectiveTotals Find(const RecordingCommunicator& recorder, const std::string& name,
                      bool background = false) {
  for (const CollectiveTotals& totals : recorder.Totals()) {
    if (totals.name == name && totals.background == background) return totals;
  }
  return {};
}

// As the header defines them, by hand.
TEST(RecordingCommunicator, CountsCallsAndBytesOfEachKind) {
  MpiCommunicator comm;
  RecordingCommunicator recorder(comm);
  const std::int64_t world = recorder.world_size();
  const std::vector<std::int64_t> rows(static_cast<std::size_t>(world), 3);
  at::Tensor floats = at::ones({10});
  at::Tensor doubles = at::ones({10}, at::kDouble);
  recorder.AllReduceSum(floats);
  recorder.AllReduceSum(doubles);
  recorder.AllReduceMax(doubles);
  recorder.AllGatherRows(at::ones({3, 4}), rows);
  recorder.ReduceScatterRows(at::ones({3 * world, 4}), rows);
  recorder.Broadcast(floats, 0);
  recorder.BroadcastBytes(recorder.rank() == 0 ? "seven b" : "", 0);
  recorder.GatherBytes("four", 0);
  recorder.AllGather(1);
  recorder.Barrier();
  recorder.StartAllReduceSum(floats, Wire::kFloat32)->Wait();
  recorder.StartAllReduceSum(floats, Wire::kBFloat16)->Wait();

  const auto expect = [&](const char* name, bool background, std::int64_t calls,
                          std::int64_t bytes) {
    const CollectiveTotals totals = Find(recorder, name, background);
    EXPECT_EQ(totals.calls, calls) << name;
    EXPECT_EQ(totals.bytes, bytes) << name;
    EXPECT_GE(totals.seconds, 0) << name;
  };
  expect("all_reduce_sum", false, 2, 40 + 80);
  expect("all_reduce_max", false, 1, 80);
  expect("all_gather_rows", false, 1, 48);
  expect("reduce_scatter_rows", false, 1, 48 * world);
  expect("broadcast", false, 2, 40 + 7);
  expect("gather_bytes", false, 1, 4);
  expect("all_gather", false, 1, 8);
  expect("barrier", false, 1, 0);
  expect("all_reduce_sum", true, 2, 40 + 20);
}

TEST(RecordingCommunicator, ResultsAreThoseWithoutIt) {
  MpiCommunicator comm;
  RecordingCommunicator recorder(comm);
  EXPECT_EQ(recorder.rank(), comm.rank());
  EXPECT_EQ(recorder.world_size(), comm.world_size());
  EXPECT_EQ(recorder.ranks_on_this_host(), comm.ranks_on_this_host());
  at::Tensor sum = at::ones({4});
  recorder.AllReduceSum(sum);
  recorder.StartAllReduceSum(sum, Wire::kFloat32)->Wait();
  EXPECT_EQ(sum[3].item<float>(), static_cast<float>(comm.world_size() * comm.world_size()));
  const std::vector<std::int64_t> ranks = recorder.AllGather(comm.rank());
  for (std::size_t i = 0; i < ranks.size(); ++i) EXPECT_EQ(ranks[i], static_cast<int>(i));
  EXPECT_EQ(recorder.BroadcastBytes(std::to_string(comm.rank()), 0), "0");
}

// Spans lie within what the caller saw of the clock; two calls follow each other.
TEST(RecordingCommunicator, AnObserverHearsOfEachWhenItHasTakenPlace) {
  MpiCommunicator comm;
  std::vector<CollectiveEvent> events;
  RecordingCommunicator recorder(comm,
                                 [&](const CollectiveEvent& event) { events.push_back(event); });
  recorder.AllGather(1);
  const auto pending = recorder.StartAllReduceSum(at::ones({6}), Wire::kFloat32);
  EXPECT_EQ(events.size(), 1U);
  pending->Wait();
  pending->Wait();
  recorder.Barrier();
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(std::string(events[0].name), "all_gather");
  EXPECT_FALSE(events[0].background);
  EXPECT_EQ(std::string(events[1].name), "all_reduce_sum");
  EXPECT_TRUE(events[1].background);
  EXPECT_EQ(events[1].bytes, 24);
  for (std::size_t i = 0; i < events.size(); ++i) {
    EXPECT_LE(events[i].begin_ns, events[i].end_ns);
    if (i > 0) {
      EXPECT_LE(events[i - 1].end_ns, events[i].begin_ns);
    }
  }
}

// Both threads at once: nothing is lost.
TEST(RecordingCommunicator, ADuplicateWritesIntoTheSameBooks) {
  MpiCommunicator comm;
  RecordingCommunicator recorder(comm);
  const std::unique_ptr<Communicator> other = recorder.Duplicate();
  std::thread thread([&] {
    for (int i = 0; i < 50; ++i) other->AllGather(i);
  });
  for (int i = 0; i < 50; ++i) recorder.AllGather(i);
  thread.join();
  EXPECT_EQ(Find(recorder, "all_gather", false).calls, 50);
  EXPECT_EQ(Find(recorder, "all_gather", true).calls, 50);
}

TEST(RecordingCommunicator, AFailureIsNotCounted) {
  MpiCommunicator self(MpiCommunicator::Self{});
  RecordingCommunicator recorder(self);
  at::Tensor half = at::zeros({2}, at::kHalf);
  EXPECT_THROW(recorder.AllReduceSum(half), Error);
  EXPECT_TRUE(recorder.Totals().empty());
}

TEST(RecordingCommunicator, PrintsALineForEachKind) {
  MpiCommunicator self(MpiCommunicator::Self{});
  RecordingCommunicator recorder(self);
  at::Tensor mebibyte = at::zeros({1 << 18});
  recorder.AllReduceSum(mebibyte);
  recorder.StartAllReduceSum(mebibyte, Wire::kFloat32)->Wait();
  const std::string table = recorder.Table();
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 3);
  EXPECT_NE(table.find("all_reduce_sum                            1       1.000"),
            std::string::npos)
      << table;
  EXPECT_NE(table.find("all_reduce_sum (background)"), std::string::npos) << table;
  recorder.Reset();
  EXPECT_TRUE(recorder.Totals().empty());
}

}  // namespace
}  // namespace fr
