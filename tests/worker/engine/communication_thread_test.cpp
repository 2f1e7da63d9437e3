#include "worker/comm/communication_thread.h"

#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace fr {
namespace {

std::string FailureOf(PendingCollective& pending) {
  try {
    pending.Wait();
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

TEST(CommunicationThread, DoesOneAfterTheOther) {
  CommunicationThread thread;
  std::vector<int> done;
  std::vector<std::unique_ptr<PendingCollective>> pending;
  for (int i = 0; i < 100; ++i) {
    pending.push_back(thread.Post([&done, i] { done.push_back(i); }));
  }
  // The last one's end is the end of all: waiting in any order will do.
  pending.back()->Wait();
  ASSERT_EQ(done.size(), 100U);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(done[static_cast<std::size_t>(i)], i);
  pending.front()->Wait();
}

// Ranks that lost step would wait for each other for ever.
TEST(CommunicationThread, AFailureIsThatOfAllThatFollows) {
  CommunicationThread thread;
  bool done = false;
  const auto before = thread.Post([] {});
  const auto failing = thread.Post([] { throw std::runtime_error("the link is down"); });
  const auto after = thread.Post([&] { done = true; });
  EXPECT_EQ(FailureOf(*after), "the link is down");
  EXPECT_EQ(FailureOf(*failing), "the link is down");
  EXPECT_EQ(FailureOf(*failing), "the link is down");
  EXPECT_EQ(FailureOf(*before), "");
  EXPECT_FALSE(done);
}

TEST(CommunicationThread, EndsWhatWasPosted) {
  int done = 0;
  {
    CommunicationThread thread;
    for (int i = 0; i < 10; ++i) thread.Post([&] { ++done; });
  }
  EXPECT_EQ(done, 10);
}

}  // namespace
}  // namespace fr
