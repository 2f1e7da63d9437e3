#include "worker/comm/collective_watch.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/worker/engine_gpu/stub_gpu.h"
#include "worker/comm/mpi_communicator.h"
#include "worker/comm/rank_messages.h"

namespace fr {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::Not;

// A watch, and what it did.
struct Watched {
  // `timeout` 0: it only answers.
  explicit Watched(std::unique_ptr<RankMessages> messages, milliseconds timeout) {
    CollectiveWatchOptions options;
    options.timeout = timeout;
    options.period = milliseconds(5);
    options.on_failure = [this](const Error& error) {
      aborted_before_it_was_told = aborts > 0;
      told.set_value(error.what());
    };
    watch = std::make_unique<CollectiveWatch>(
        std::move(messages),
        CollectiveWatch::Transport{[this] { return background_error.load() ? kBackground : ""; },
                                   [this] { ++aborts; }},
        std::move(options));
  }

  // What `on_failure` was told; empty: nothing within a minute.
  std::string Told() {
    std::future<std::string> text = told.get_future();
    if (text.wait_for(std::chrono::minutes(1)) != std::future_status::ready) return "";
    return text.get();
  }

  void Give(Gpu& gpu, const char* name, int queue = 0) {
    watch->Begin(queue, name, 4096);
    std::unique_ptr<GpuEvent> event = gpu.NewEvent();
    event->Record(nullptr);
    watch->Given(queue, std::move(event));
  }

  std::string FailureOfTheNextCall() {
    try {
      watch->Begin(0, "all-reduce", 8);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUnavailable);
      return error.what();
    }
    return "";
  }

  static constexpr const char* kBackground = "NCCL reports: remote process exited";
  std::atomic<bool> background_error = false;
  std::atomic<int> aborts = 0;
  bool aborted_before_it_was_told = false;
  std::promise<std::string> told;
  std::unique_ptr<CollectiveWatch> watch;
};

constexpr milliseconds kNever{0};
// Long enough for a rank that has to wait for a processor between two calls.
constexpr milliseconds kSoon{1000};
constexpr milliseconds kLate{60'000};

TEST(CollectiveWatch, NamesWhoIsMissing) {
  const LateCollective late{42, "all-reduce", 4096, 600.12};
  const RankProgress there{true, 42, 42};
  const RankProgress absent{true, 41, 0};
  const RankProgress silent{};
  const RankProgress behind{true, 43, 40};
  const std::string begin = "rank 1 has waited 600.1 s in collective 42 (all-reduce, 4096 bytes): ";
  EXPECT_EQ(DescribeLate(1, late, {there, silent, there}), begin + "all ranks have come to it");
  EXPECT_EQ(DescribeLate(1, late, {there, there, absent}), begin + "rank 2 has not come to it");
  EXPECT_EQ(DescribeLate(1, late, {there, there, absent, silent, there, absent}),
            begin + "ranks 2, 5 have not come to it; rank 3 does not answer");
  EXPECT_EQ(DescribeLate(1, late, {silent, there, silent, behind}),
            begin + "ranks 0, 2 do not answer; rank 3 is still in collective 40");
}

TEST(CollectiveWatch, TakesItsTimeFromTheEnvironment) {
  const auto with = [](const char* text) {
    setenv("FR_NCCL_TIMEOUT_S", text, 1);
    const milliseconds timeout = CollectiveTimeoutFromEnvironment();
    unsetenv("FR_NCCL_TIMEOUT_S");
    return timeout;
  };
  unsetenv("FR_NCCL_TIMEOUT_S");
  EXPECT_EQ(CollectiveTimeoutFromEnvironment(), std::chrono::minutes(10));
  EXPECT_EQ(with(""), std::chrono::minutes(10));
  EXPECT_EQ(with("0"), kNever);
  EXPECT_EQ(with("90"), std::chrono::seconds(90));
  for (const char* wrong : {"-1", "1.5", "soon", "10s", " 1", "99999999999999999999"}) {
    EXPECT_THROW(with(wrong), Error) << wrong;
  }
  unsetenv("FR_NCCL_TIMEOUT_S");
}

TEST(CollectiveWatch, LetsPassWhatIsDone) {
  StubGpu gpu;
  MpiCommunicator comm;
  Watched watched(comm.NewMessages(), kLate);
  for (int i = 0; i < 100; ++i) watched.Give(gpu, "all-reduce", i % 2);
  EXPECT_TRUE(watched.watch->Drain());
  EXPECT_FALSE(watched.watch->failure()->happened());
  EXPECT_EQ(watched.aborts, 0);
  comm.Barrier();
}

// Every rank waits in collective 2, but for the last, which computes for ever after collective 1.
TEST(CollectiveWatch, NamesTheRankThatDoesNotCome) {
  StubGpu gpu;
  MpiCommunicator comm;
  const int last = comm.world_size() - 1;
  const bool comes = comm.rank() < last || last == 0;
  Watched watched(comm.NewMessages(), comes ? kSoon : kNever);
  watched.Give(gpu, "broadcast");
  comm.Barrier();
  gpu.hangs = true;
  if (comes) {
    watched.Give(gpu, "all-gather");
    const std::string text = watched.Told();
    EXPECT_THAT(text, HasSubstr("rank " + std::to_string(comm.rank()) + " has waited "));
    EXPECT_THAT(text, HasSubstr(" s in collective 2 (all-gather, 4096 bytes): "));
    EXPECT_THAT(text,
                HasSubstr(last == 0 ? std::string("all ranks have come to it")
                                    : "rank " + std::to_string(last) + " has not come to it"));
    EXPECT_THAT(text, HasSubstr("FR_NCCL_TIMEOUT_S"));
    EXPECT_EQ(watched.aborts, 1);
    EXPECT_TRUE(watched.aborted_before_it_was_told);
    EXPECT_EQ(watched.FailureOfTheNextCall(), text);
    EXPECT_FALSE(watched.watch->Drain());
  }
  comm.Barrier();  // until then the last rank's watch answers, and those that failed
}

// Before anything was given to a GPU: the call itself is stuck.
TEST(CollectiveWatch, SeesACallThatDoesNotReturn) {
  MpiCommunicator comm;
  Watched watched(comm.NewMessages(), kSoon);
  watched.watch->Begin(1, "start of NCCL", 0);
  EXPECT_THAT(watched.Told(), HasSubstr("in collective 1 (start of NCCL, 0 bytes)"));
  comm.Barrier();
}

// The last rank has no watch that runs, as a process that was stopped.
TEST(CollectiveWatch, NamesTheRankThatDoesNotAnswer) {
  StubGpu gpu;
  MpiCommunicator comm;
  if (comm.world_size() == 1) return;
  const int last = comm.world_size() - 1;
  std::unique_ptr<RankMessages> messages = comm.NewMessages();
  gpu.hangs = true;
  if (comm.rank() == last) {
    comm.Barrier();
    return;
  }
  Watched watched(std::move(messages), kSoon);
  watched.Give(gpu, "all-reduce");
  const std::string text = watched.Told();
  EXPECT_THAT(text, HasSubstr("rank " + std::to_string(last) + " does not answer"));
  EXPECT_THAT(text, Not(HasSubstr("has not come to it")));
  comm.Barrier();
}

// Rank 1 came to both, but its GPU is still in the first.
TEST(CollectiveWatch, NamesTheRankThatIsBehind) {
  StubGpu gpu;
  MpiCommunicator comm;
  Watched watched(comm.NewMessages(), comm.rank() == 0 ? kSoon : kNever);
  gpu.hangs = comm.rank() == 1;
  if (comm.rank() != 0) {
    watched.Give(gpu, "all-reduce");
    watched.Give(gpu, "all-reduce");
  }
  comm.Barrier();
  if (comm.rank() == 0) {
    watched.Give(gpu, "all-reduce");
    EXPECT_TRUE(watched.watch->Drain());
    gpu.hangs = true;
    watched.Give(gpu, "all-reduce");
    EXPECT_THAT(watched.Told(), HasSubstr(comm.world_size() > 1 ? "rank 1 is still in collective 1"
                                                                : "all ranks have come to it"));
  }
  comm.Barrier();
}

// A queue that moves on does not hide one that does not.
TEST(CollectiveWatch, LooksAtBothQueues) {
  StubGpu gpu;
  MpiCommunicator comm;
  Watched watched(comm.NewMessages(), kSoon);
  watched.Give(gpu, "all-reduce", 0);
  EXPECT_TRUE(watched.watch->Drain());
  gpu.hangs = true;
  watched.Give(gpu, "all-reduce beside computation", 1);
  EXPECT_THAT(watched.Told(), HasSubstr("in collective 2 (all-reduce beside computation"));
  comm.Barrier();
}

TEST(CollectiveWatch, HearsOfErrorsInTheBackground) {
  StubGpu gpu;
  MpiCommunicator comm;
  Watched watched(comm.NewMessages(), kNever);
  gpu.hangs = true;
  watched.Give(gpu, "reduce-scatter");
  comm.Barrier();
  watched.background_error = true;
  const std::string text = watched.Told();
  EXPECT_THAT(text, HasSubstr(std::string(Watched::kBackground) + ": rank"));
  EXPECT_THAT(text, HasSubstr("in collective 1 (reduce-scatter"));
  EXPECT_EQ(watched.FailureOfTheNextCall(), text);
  comm.Barrier();
}

TEST(CollectiveWatch, HearsOfAGpuThatFailed) {
  StubGpu gpu;
  MpiCommunicator comm;
  Watched watched(comm.NewMessages(), kNever);
  gpu.hangs = true;
  watched.Give(gpu, "all-reduce");
  gpu.broken = true;
  EXPECT_THAT(watched.Told(), HasSubstr("the GPU has fallen off the bus: rank "));
  EXPECT_EQ(watched.aborts, 1);
  comm.Barrier();
}

TEST(CollectiveWatch, WaitsForEverIfTold) {
  StubGpu gpu;
  MpiCommunicator comm;
  Watched watched(comm.NewMessages(), kNever);
  gpu.hangs = true;
  watched.Give(gpu, "all-reduce");
  std::this_thread::sleep_for(milliseconds(200));
  EXPECT_FALSE(watched.watch->failure()->happened());
  std::thread later([&] {
    std::this_thread::sleep_for(milliseconds(50));
    gpu.hangs = false;
  });
  EXPECT_TRUE(watched.watch->Drain());
  later.join();
  comm.Barrier();
}

TEST(CollectiveWatch, KeepsTheFirstFailure) {
  StubGpu gpu;
  MpiCommunicator comm;
  Watched watched(comm.NewMessages(), kNever);
  watched.watch->Fail(Error(ErrorCode::kUnavailable, "first"));
  watched.watch->Fail(Error(ErrorCode::kUnavailable, "second"));
  watched.background_error = true;
  EXPECT_EQ(watched.FailureOfTheNextCall(), "first");
  EXPECT_EQ(watched.aborts, 1);
  comm.Barrier();
}

}  // namespace
}  // namespace fr
