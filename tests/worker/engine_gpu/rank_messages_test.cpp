#include "worker/comm/rank_messages.h"

#include <chrono>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "worker/comm/mpi_communicator.h"

namespace fr {
namespace {

using Clock = std::chrono::steady_clock;

// Nothing: it did not come within a minute.
std::optional<RankMessage> Await(RankMessages& messages) {
  const auto deadline = Clock::now() + std::chrono::minutes(1);
  while (Clock::now() < deadline) {
    if (const auto message = messages.Receive()) return message;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return std::nullopt;
}

TEST(RankMessages, ArriveInOrderAndSayWhoSentThem) {
  MpiCommunicator comm;
  const std::unique_ptr<RankMessages> messages = comm.NewMessages();
  ASSERT_EQ(messages->size(), comm.world_size());
  ASSERT_EQ(messages->rank(), comm.rank());
  constexpr int kEach = 50;
  for (int i = 0; i < kEach; ++i) {
    for (int rank = 0; rank < messages->size(); ++rank) {
      if (rank != messages->rank()) messages->Send(rank, {messages->rank(), rank, i, -1});
    }
  }
  std::vector<std::int64_t> next(messages->size(), 0);
  for (int i = 0; i < kEach * (messages->size() - 1); ++i) {
    const std::optional<RankMessage> message = Await(*messages);
    ASSERT_TRUE(message);
    EXPECT_EQ(message->words, (std::array<std::int64_t, 4>{message->rank, messages->rank(),
                                                           next.at(message->rank)++, -1}));
  }
  EXPECT_FALSE(messages->Receive());
}

// While it is in a collective, as a rank that computes would be.
TEST(RankMessages, NeedNoOtherThreadOfTheReceiver) {
  MpiCommunicator comm;
  const std::unique_ptr<RankMessages> messages = comm.NewMessages();
  const int last = comm.world_size() - 1;
  bool answered = comm.world_size() == 1;
  if (comm.rank() == 0 && last > 0) {
    messages->Send(last, {1, 2, 3, 4});
    answered = Await(*messages).has_value();
  }
  std::thread watch([&] {
    if (comm.rank() != last || last == 0) return;
    const auto question = Await(*messages);
    if (question) messages->Send(question->rank, question->words);
  });
  comm.Barrier();  // rank 0 comes here only with the answer
  watch.join();
  if (comm.rank() == 0) {
    EXPECT_TRUE(answered);
  }
}

TEST(RankMessages, WhatNobodyTakesHoldsNobodyUp) {
  MpiCommunicator comm;
  {
    const std::unique_ptr<RankMessages> messages = comm.NewMessages();
    const int next = (comm.rank() + 1) % comm.world_size();
    for (int i = 0; i < 1000 && next != comm.rank(); ++i) messages->Send(next, {i, 0, 0, 0});
  }
  comm.Barrier();
}

}  // namespace
}  // namespace fr
