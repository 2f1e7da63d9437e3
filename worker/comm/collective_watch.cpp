#include "worker/comm/collective_watch.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <future>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/base/clock.h"
#include "worker/comm/rank_messages.h"

namespace fr {
namespace {

// The first word of a message; then the question's number, and of an answer the progress.
constexpr std::int64_t kQuestion = 1;
constexpr std::int64_t kAnswer = 2;

// While somebody waits for an answer, or for the last collectives.
constexpr std::chrono::milliseconds kShortNap{2};

std::string Ranks(const std::vector<int>& ranks) {
  return fmt::format("{} {}", ranks.size() == 1 ? "rank" : "ranks", fmt::join(ranks, ", "));
}

std::string Others(int rank, const LateCollective& late,
                   const std::vector<RankProgress>& progress) {
  std::vector<int> absent;
  std::vector<int> silent;
  std::vector<std::string> parts;
  std::vector<std::string> behind;
  for (int other = 0; other < static_cast<int>(progress.size()); ++other) {
    const RankProgress& its = progress[static_cast<std::size_t>(other)];
    if (other == rank) continue;
    if (!its.answered) {
      silent.push_back(other);
    } else if (its.begun < late.number) {
      absent.push_back(other);
    } else if (its.under_way > 0 && its.under_way < late.number) {
      behind.push_back(fmt::format("rank {} is still in collective {}", other, its.under_way));
    }
  }
  if (!absent.empty()) {
    parts.push_back(
        fmt::format("{} {} not come to it", Ranks(absent), absent.size() == 1 ? "has" : "have"));
  }
  if (!silent.empty()) {
    parts.push_back(
        fmt::format("{} {} not answer", Ranks(silent), silent.size() == 1 ? "does" : "do"));
  }
  parts.insert(parts.end(), behind.begin(), behind.end());
  return parts.empty() ? "all ranks have come to it" : fmt::format("{}", fmt::join(parts, "; "));
}

}  // namespace

std::chrono::milliseconds CollectiveTimeoutFromEnvironment() {
  const char* text = std::getenv("FR_NCCL_TIMEOUT_S");
  if (text == nullptr || *text == '\0') return CollectiveWatchOptions{}.timeout;
  const char* end = text + std::strlen(text);
  std::int64_t seconds = 0;
  const auto [stopped, status] = std::from_chars(text, end, seconds);
  constexpr std::int64_t kMost = 1'000'000'000;
  if (status != std::errc{} || stopped != end || seconds < 0 || seconds > kMost) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("FR_NCCL_TIMEOUT_S is '{}': whole seconds are needed, or 0 for no limit",
                    text));
  }
  return std::chrono::seconds(seconds);
}

std::string DescribeLate(int rank, const LateCollective& late,
                         const std::vector<RankProgress>& progress) {
  return fmt::format("rank {} has waited {:.1f} s in collective {} ({}, {} bytes): {}", rank,
                     late.waited_s, late.number, late.name, late.bytes,
                     Others(rank, late, progress));
}

bool CollectiveFailure::Set(const Error& error) {
  const std::lock_guard lock(mutex_);
  if (error_) return false;
  error_ = error;
  return true;
}

bool CollectiveFailure::happened() const {
  const std::lock_guard lock(mutex_);
  return error_.has_value();
}

void CollectiveFailure::ThrowIfAny() const {
  const std::lock_guard lock(mutex_);
  if (error_) throw Error(*error_);
}

CollectiveWatch::CollectiveWatch(std::unique_ptr<RankMessages> messages, Transport transport,
                                 CollectiveWatchOptions options)
    : messages_(std::move(messages)),
      transport_(std::move(transport)),
      options_(std::move(options)),
      thread_([this] { Run(); }) {}

CollectiveWatch::~CollectiveWatch() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void CollectiveWatch::Begin(int queue, const char* name, std::int64_t bytes) {
  failure_->ThrowIfAny();
  const std::lock_guard lock(mutex_);
  Item item;
  item.number = ++begun_;
  item.name = name;
  item.bytes = bytes;
  item.since_ns = SteadyNanos();
  queues_.at(static_cast<std::size_t>(queue)).push_back(std::move(item));
}

void CollectiveWatch::Given(int queue, std::unique_ptr<GpuEvent> event) {
  const std::lock_guard lock(mutex_);
  Item& item = queues_.at(static_cast<std::size_t>(queue)).back();
  item.event = std::move(event);
  item.given = true;
}

void CollectiveWatch::Fail(const Error& error) {
  if (failure_->Set(error)) Abort();
}

bool CollectiveWatch::Drain() {
  std::unique_lock lock(mutex_);
  while (!failure_->happened()) {
    try {
      ForgetDone();
    } catch (const Error&) {
      return false;
    }
    if (Oldest() == nullptr) return true;
    changed_.wait_for(lock, kShortNap);
  }
  return false;
}

void CollectiveWatch::ForgetDone() {
  for (std::deque<Item>& queue : queues_) {
    while (!queue.empty()) {
      const Item& first = queue.front();
      if (!first.given || (first.event && !first.event->IsDone())) break;
      queue.pop_front();
      // What waited behind it could not begin before.
      if (!queue.empty()) queue.front().since_ns = SteadyNanos();
    }
  }
}

const CollectiveWatch::Item* CollectiveWatch::Oldest() const {
  const Item* oldest = nullptr;
  for (const std::deque<Item>& queue : queues_) {
    if (queue.empty()) continue;
    if (oldest == nullptr || queue.front().number < oldest->number) oldest = &queue.front();
  }
  return oldest;
}

// Of those that are first in their queues the oldest that is over its time, or else the oldest.
std::optional<LateCollective> CollectiveWatch::FindLate() const {
  const Item* found = Oldest();
  if (found == nullptr) return std::nullopt;
  const std::int64_t now = SteadyNanos();
  const std::int64_t timeout = std::chrono::nanoseconds(options_.timeout).count();
  const auto late = [&](const Item& item) { return now - item.since_ns >= timeout; };
  for (const std::deque<Item>& queue : queues_) {
    if (!queue.empty() && !late(*found) && late(queue.front())) found = &queue.front();
  }
  return LateCollective{found->number, found->name, found->bytes,
                        static_cast<double>(now - found->since_ns) * 1e-9};
}

void CollectiveWatch::Run() {
  std::unique_lock lock(mutex_);
  while (!ends_) {
    lock.unlock();
    AnswerQuestions(0, nullptr);
    if (!failure_->happened()) LookForTrouble();
    lock.lock();
    changed_.wait_for(lock, options_.period, [&] { return ends_; });
  }
}

void CollectiveWatch::LookForTrouble() {
  std::string trouble;
  std::optional<LateCollective> late;
  try {
    trouble = transport_.async_error();
    const std::lock_guard lock(mutex_);
    late = FindLate();  // for the error text, if the GPU fails in the next line
    ForgetDone();
    late = FindLate();
  } catch (const std::exception& error) {
    trouble = error.what();
  }
  const double timeout_s = std::chrono::duration<double>(options_.timeout).count();
  const bool too_late = timeout_s > 0 && late && late->waited_s >= timeout_s;
  if (too_late || !trouble.empty()) Report(trouble, late);
}

// Also takes the answers to `question`, where there are `answers` to fill.
void CollectiveWatch::AnswerQuestions(std::int64_t question, std::vector<RankProgress>* answers) {
  try {
    while (const std::optional<RankMessage> message = messages_->Receive()) {
      const auto [kind, number, begun, under_way] = message->words;
      if (kind == kQuestion) {
        std::unique_lock lock(mutex_);
        const Item* oldest = Oldest();
        const std::int64_t first = oldest == nullptr ? 0 : oldest->number;
        const std::int64_t latest = begun_;
        lock.unlock();
        messages_->Send(message->rank, {kAnswer, number, latest, first});
      } else if (answers != nullptr && number == question) {
        (*answers)[static_cast<std::size_t>(message->rank)] = {true, begun, under_way};
      }
    }
  } catch (const Error&) {
    // MPI failed: its own next call on the computing thread says so. The others learn that this
    // rank does not answer.
  }
}

bool CollectiveWatch::AskOthers(std::vector<RankProgress>* answers) {
  const int own = messages_->rank();
  answers->assign(static_cast<std::size_t>(messages_->size()), {});
  (*answers)[static_cast<std::size_t>(own)].answered = true;
  const std::int64_t question = ++questions_;
  for (int rank = 0; rank < messages_->size(); ++rank) {
    try {
      if (rank != own) messages_->Send(rank, {kQuestion, question, 0, 0});
    } catch (const Error&) {
      // It will not answer.
    }
  }
  const auto deadline = std::chrono::steady_clock::now() + options_.answer_deadline;
  while (true) {
    AnswerQuestions(question, answers);
    if (std::all_of(answers->begin(), answers->end(), [](const auto& its) { return its.answered; }))
      return true;
    if (std::chrono::steady_clock::now() >= deadline) return true;
    std::unique_lock lock(mutex_);
    if (changed_.wait_for(lock, kShortNap, [&] { return ends_; })) return false;
  }
}

void CollectiveWatch::Report(const std::string& trouble,
                             const std::optional<LateCollective>& late) {
  std::vector<RankProgress> progress;
  if (!AskOthers(&progress)) return;
  const int rank = messages_->rank();
  std::string text = late ? DescribeLate(rank, *late, progress)
                          : fmt::format("rank {}, between collectives", rank);
  if (trouble.empty()) {
    text += "; $FR_NCCL_TIMEOUT_S sets how long a collective may take";
  } else {
    text = trouble + ": " + text;
  }
  const Error error(ErrorCode::kUnavailable, text);
  if (!failure_->Set(error)) return;  // the computing thread was first
  Abort();
  if (options_.on_failure) options_.on_failure(error);
}

// On a thread of its own, for a library that has failed may not return from its abort either.
void CollectiveWatch::Abort() {
  std::promise<void> returned;
  const std::future<void> done = returned.get_future();
  std::thread([abort = transport_.abort, returned = std::move(returned)]() mutable {
    abort();
    returned.set_value();
  }).detach();
  done.wait_for(options_.answer_deadline);
}

}  // namespace fr
