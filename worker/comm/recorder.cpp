#include "worker/comm/recorder.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <type_traits>
#include <utility>

#include <fmt/format.h>

#include "common/base/clock.h"

namespace fr {
namespace {

constexpr double kMiB = 1 << 20;

std::int64_t Bytes(const at::Tensor& tensor) { return tensor.numel() * tensor.element_size(); }

}  // namespace

class RecordingCommunicator::Books {
 public:
  explicit Books(Observer observer) : observer_(std::move(observer)) {}

  void Note(const CollectiveEvent& event) {
    const std::lock_guard lock(mutex_);
    CollectiveTotals& totals = totals_[{event.background, event.name}];
    totals.calls += 1;
    totals.bytes += event.bytes;
    totals.seconds += static_cast<double>(event.end_ns - event.begin_ns) / 1e9;
    if (observer_) observer_(event);
  }

  std::vector<CollectiveTotals> Totals() const {
    const std::lock_guard lock(mutex_);
    std::vector<CollectiveTotals> all;
    for (const auto& [key, totals] : totals_) {
      all.push_back(totals);
      all.back().background = key.first;
      all.back().name = key.second;
    }
    return all;
  }

  void Reset() {
    const std::lock_guard lock(mutex_);
    totals_.clear();
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<bool, std::string>, CollectiveTotals> totals_;
  Observer observer_;
};

class RecordingCommunicator::Pending : public PendingCollective {
 public:
  Pending(std::unique_ptr<PendingCollective> inner, std::int64_t bytes,
          std::shared_ptr<Books> books)
      : inner_(std::move(inner)), bytes_(bytes), books_(std::move(books)) {}

  TimeSpan Wait() override {
    const TimeSpan span = inner_->Wait();
    if (books_ != nullptr) {
      books_->Note({"all_reduce_sum", bytes_, span.begin_ns, span.end_ns, true});
      books_.reset();
    }
    return span;
  }

 private:
  std::unique_ptr<PendingCollective> inner_;
  std::int64_t bytes_;
  std::shared_ptr<Books> books_;  // null once it was noted
};

RecordingCommunicator::RecordingCommunicator(Communicator& inner, Observer observer)
    : inner_(inner), books_(std::make_shared<Books>(std::move(observer))) {}

RecordingCommunicator::RecordingCommunicator(std::unique_ptr<Communicator> inner,
                                             std::shared_ptr<Books> books)
    : owned_(std::move(inner)), inner_(*owned_), books_(std::move(books)) {}

RecordingCommunicator::~RecordingCommunicator() = default;

std::vector<CollectiveTotals> RecordingCommunicator::Totals() const { return books_->Totals(); }

void RecordingCommunicator::Reset() { books_->Reset(); }

std::string RecordingCommunicator::Table() const {
  std::string table = fmt::format("{:<34} {:>8} {:>11} {:>10} {:>10}\n", "collective", "calls",
                                  "MiB", "seconds", "MiB/s");
  for (const CollectiveTotals& totals : Totals()) {
    const double mib = static_cast<double>(totals.bytes) / kMiB;
    table += fmt::format("{:<34} {:>8} {:>11.3f} {:>10.4f} {:>10.1f}\n",
                         totals.name + (totals.background ? " (background)" : ""), totals.calls,
                         mib, totals.seconds, totals.seconds > 0 ? mib / totals.seconds : 0.0);
  }
  return table;
}

template <typename Collective>
auto RecordingCommunicator::Timed(const char* name, std::int64_t bytes,
                                  const Collective& collective) {
  const std::int64_t begin = SteadyNanos();
  const auto note = [&] { books_->Note({name, bytes, begin, SteadyNanos(), owned_ != nullptr}); };
  if constexpr (std::is_void_v<decltype(collective())>) {
    collective();
    note();
  } else {
    auto result = collective();
    note();
    return result;
  }
}

void RecordingCommunicator::AllReduceSum(at::Tensor& tensor) {
  Timed("all_reduce_sum", Bytes(tensor), [&] { inner_.AllReduceSum(tensor); });
}

void RecordingCommunicator::AllReduceMax(at::Tensor& tensor) {
  Timed("all_reduce_max", Bytes(tensor), [&] { inner_.AllReduceMax(tensor); });
}

std::unique_ptr<PendingCollective> RecordingCommunicator::StartAllReduceSum(at::Tensor tensor,
                                                                            Wire wire) {
  const std::int64_t bytes = wire == Wire::kBFloat16 ? Bytes(tensor) / 2 : Bytes(tensor);
  return std::make_unique<Pending>(inner_.StartAllReduceSum(std::move(tensor), wire), bytes,
                                   books_);
}

at::Tensor RecordingCommunicator::AllGatherRows(const at::Tensor& local,
                                                const std::vector<std::int64_t>& rows_per_rank) {
  return Timed("all_gather_rows", Bytes(local),
               [&] { return inner_.AllGatherRows(local, rows_per_rank); });
}

at::Tensor RecordingCommunicator::ReduceScatterRows(
    const at::Tensor& full, const std::vector<std::int64_t>& rows_per_rank) {
  return Timed("reduce_scatter_rows", Bytes(full),
               [&] { return inner_.ReduceScatterRows(full, rows_per_rank); });
}

void RecordingCommunicator::Broadcast(at::Tensor& tensor, int root) {
  Timed("broadcast", Bytes(tensor), [&] { inner_.Broadcast(tensor, root); });
}

std::string RecordingCommunicator::BroadcastBytes(const std::string& bytes, int root) {
  const std::int64_t begin = SteadyNanos();
  std::string result = inner_.BroadcastBytes(bytes, root);
  // Other ranks than the root learn the size from the result.
  books_->Note({"broadcast", static_cast<std::int64_t>(result.size()), begin, SteadyNanos(),
                owned_ != nullptr});
  return result;
}

std::vector<std::string> RecordingCommunicator::GatherBytes(const std::string& bytes, int root) {
  return Timed("gather_bytes", static_cast<std::int64_t>(bytes.size()),
               [&] { return inner_.GatherBytes(bytes, root); });
}

std::vector<std::int64_t> RecordingCommunicator::AllGather(std::int64_t value) {
  return Timed("all_gather", sizeof(value), [&] { return inner_.AllGather(value); });
}

void RecordingCommunicator::Barrier() {
  Timed("barrier", 0, [&] { inner_.Barrier(); });
}

std::unique_ptr<Communicator> RecordingCommunicator::Duplicate() {
  return std::unique_ptr<Communicator>(new RecordingCommunicator(inner_.Duplicate(), books_));
}

}  // namespace fr
