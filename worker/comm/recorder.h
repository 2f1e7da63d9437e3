#pragma once
// What communication costs: calls, bytes and seconds of each kind of collective.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "worker/comm/communicator.h"

namespace fr {

// One collective that took place on this rank.
struct CollectiveEvent {
  // all_reduce_sum, all_reduce_max, all_gather_rows, reduce_scatter_rows, broadcast, gather_bytes,
  // all_gather, barrier
  const char* name = "";
  // What this rank contributes to it, as it travels (half of float32 with Wire::kBFloat16), however
  // often an algorithm sends it: the tensor of an all-reduce, a reduce-scatter (all rows) or a
  // broadcast (on every rank), this rank's rows of an all-gather, its bytes of a gather.
  std::int64_t bytes = 0;
  // From the call until its result was there, waiting for slower ranks included; of one beside
  // computation, as the communication thread spent it. On the steady clock.
  std::int64_t begin_ns = 0;
  std::int64_t end_ns = 0;
  // Beside computation: StartAllReduceSum, and whatever a duplicate does.
  bool background = false;
};

struct CollectiveTotals {
  std::string name;
  bool background = false;
  std::int64_t calls = 0;
  std::int64_t bytes = 0;
  double seconds = 0;
};

// Does what `inner` does, and keeps the books. Duplicates write into the same ones. A collective
// that fails is not counted; one that was started, when it was waited for.
class RecordingCommunicator : public Communicator {
 public:
  // Told of every collective, one at a time, by the thread that called or waited; it does not call
  // back. May be empty.
  using Observer = std::function<void(const CollectiveEvent&)>;

  // `inner` outlives this.
  explicit RecordingCommunicator(Communicator& inner, Observer observer = {});
  ~RecordingCommunicator() override;

  // Since the beginning or the latest Reset, by name, those in the background after the others.
  // Thread-safe, as Reset and Table.
  std::vector<CollectiveTotals> Totals() const;
  void Reset();
  // For people: a line each, with calls, MiB, seconds and MiB/s.
  std::string Table() const;

  int rank() const override { return inner_.rank(); }
  int world_size() const override { return inner_.world_size(); }
  int ranks_on_this_host() const override { return inner_.ranks_on_this_host(); }
  int rank_on_this_host() const override { return inner_.rank_on_this_host(); }
  void AllReduceSum(at::Tensor& tensor) override;
  void AllReduceMax(at::Tensor& tensor) override;
  std::unique_ptr<PendingCollective> StartAllReduceSum(at::Tensor tensor, Wire wire) override;
  at::Tensor AllGatherRows(const at::Tensor& local,
                           const std::vector<std::int64_t>& rows_per_rank) override;
  at::Tensor ReduceScatterRows(const at::Tensor& full,
                               const std::vector<std::int64_t>& rows_per_rank) override;
  void Broadcast(at::Tensor& tensor, int root) override;
  std::string BroadcastBytes(const std::string& bytes, int root) override;
  std::vector<std::string> GatherBytes(const std::string& bytes, int root) override;
  std::vector<std::int64_t> AllGather(std::int64_t value) override;
  void Barrier() override;
  void SetDeterministic(bool deterministic) override { inner_.SetDeterministic(deterministic); }
  std::unique_ptr<Communicator> Duplicate() override;

 private:
  class Books;
  class Pending;

  RecordingCommunicator(std::unique_ptr<Communicator> inner, std::shared_ptr<Books> books);

  // What `collective` returns, after it was noted.
  template <typename Collective>
  auto Timed(const char* name, std::int64_t bytes, const Collective& collective);

  std::unique_ptr<Communicator> owned_;  // of a duplicate
  Communicator& inner_;
  std::shared_ptr<Books> books_;
};

}  // namespace fr
