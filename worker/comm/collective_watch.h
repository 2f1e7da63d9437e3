#pragma once
// Watches collectives that a GPU was given: a host that waits for one sleeps in the driver, and
// would for ever if another rank never came. After a while the watch finds out who did not come,
// and ends the collective.

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/base/error.h"
#include "worker/gpu/gpu.h"

namespace fr {

class RankMessages;

struct CollectiveWatchOptions {
  // For one collective, from when the one before it in its queue was done. 0: for ever. Long, as
  // the others wait in a collective while one rank evaluates or loads data.
  std::chrono::milliseconds timeout{600'000};
  // For the other ranks, to say how far they are; and for the abort, before `on_failure` is called
  // regardless.
  std::chrono::milliseconds answer_deadline{5'000};
  // Between two looks, at collectives and at others' questions.
  std::chrono::milliseconds period{100};
  // Called once, on the watch's thread, after the collectives were ended. The thread that computes
  // may still be blocked: whoever must not rely on it ends the process here. May be empty.
  std::function<void(const Error&)> on_failure;
};

// $FR_NCCL_TIMEOUT_S in seconds, 0 for never, or the default. Throws Error(kInvalidArgument) for
// what is no such number.
std::chrono::milliseconds CollectiveTimeoutFromEnvironment();

// A collective that is not done, and how long ago it could have begun.
struct LateCollective {
  std::int64_t number = 0;
  std::string name;
  std::int64_t bytes = 0;
  double waited_s = 0;
};

// How far another rank is. All ranks count the same collectives, from 1.
struct RankProgress {
  bool answered = false;
  std::int64_t begun = 0;      // the latest that it came to
  std::int64_t under_way = 0;  // the first that is not done; 0: all are
};

// "rank 1 has waited 600.1 s in collective 42 (all-reduce, 4096 bytes): ranks 2, 5 have not come to
// it; rank 3 does not answer". `progress` by rank; that of `rank` itself does not matter.
std::string DescribeLate(int rank, const LateCollective& late,
                         const std::vector<RankProgress>& progress);

// The first failure, for all who must hear of it. Thread-safe.
class CollectiveFailure {
 public:
  // False: there is one already, which stays.
  bool Set(const Error& error);
  bool happened() const;
  void ThrowIfAny() const;

 private:
  mutable std::mutex mutex_;
  std::optional<Error> error_;
};

// The calls below are for one thread at a time, that which computes.
class CollectiveWatch {
 public:
  // Both are called by the watch's thread, and must be safe beside collectives of another.
  struct Transport {
    // What went wrong in the background; empty: nothing.
    std::function<std::string()> async_error;
    // Ends what is under way, and all calls that are stuck in it. May be called again. Kept until
    // it has returned, which may be after the watch is gone.
    std::function<void()> abort;
  };

  // Collectives are done in order within a queue.
  static constexpr int kQueues = 2;

  // Every rank of `messages` has a watch; it answers the others from its own thread.
  CollectiveWatch(std::unique_ptr<RankMessages> messages, Transport transport,
                  CollectiveWatchOptions options);
  ~CollectiveWatch();
  CollectiveWatch(const CollectiveWatch&) = delete;
  CollectiveWatch& operator=(const CollectiveWatch&) = delete;

  // This rank comes to its next collective, and is about to give it to the GPU, where `bytes` are
  // what it contributes. Throws what failed before. `name` lives as long as the program.
  void Begin(int queue, const char* name, std::int64_t bytes);
  // The latest of `queue` was given to the GPU, and is done when `event`, recorded after it, is;
  // null: it is done.
  void Given(int queue, std::unique_ptr<GpuEvent> event);

  // What the calling thread found: ends all collectives, and later calls throw `error`.
  void Fail(const Error& error);
  const std::shared_ptr<CollectiveFailure>& failure() const { return failure_; }

  // Waits until all are done; false: they failed.
  bool Drain();

 private:
  struct Item {
    std::int64_t number = 0;
    const char* name = "";
    std::int64_t bytes = 0;
    std::int64_t since_ns = 0;
    bool given = false;
    std::unique_ptr<GpuEvent> event;
  };

  void Run();
  void LookForTrouble();
  // With mutex_ held.
  void ForgetDone();
  const Item* Oldest() const;
  std::optional<LateCollective> FindLate() const;

  void AnswerQuestions(std::int64_t question, std::vector<RankProgress>* answers);
  // False: the watch ends.
  bool AskOthers(std::vector<RankProgress>* answers);
  void Report(const std::string& trouble, const std::optional<LateCollective>& late);
  void Abort();

  std::unique_ptr<RankMessages> messages_;  // the watch's thread's
  const Transport transport_;
  const CollectiveWatchOptions options_;
  const std::shared_ptr<CollectiveFailure> failure_ = std::make_shared<CollectiveFailure>();
  std::int64_t questions_ = 0;  // asked so far; the watch's thread's

  std::mutex mutex_;
  std::condition_variable changed_;
  bool ends_ = false;
  std::int64_t begun_ = 0;
  std::array<std::deque<Item>, kQueues> queues_;
  std::thread thread_;
};

}  // namespace fr
