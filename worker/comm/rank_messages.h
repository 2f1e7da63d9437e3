#pragma once
// Short messages from rank to rank that nobody waits for: what watchdogs tell each other while the
// ranks' other threads may be stuck.

#include <array>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>

#include <mpi.h>

namespace fr {

struct RankMessage {
  int rank = 0;  // who sent it
  std::array<std::int64_t, 4> words{};
};

// On an MPI communicator of its own. One thread at a time; none of the calls waits for another
// rank. They throw Error(kUnavailable) when MPI fails.
class RankMessages {
 public:
  // Collective over `parent`.
  explicit RankMessages(MPI_Comm parent);
  ~RankMessages();
  RankMessages(const RankMessages&) = delete;
  RankMessages& operator=(const RankMessages&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }

  void Send(int rank, const std::array<std::int64_t, 4>& words);
  // The next that is there, those of one rank in the order in which it sent them; none: nothing is.
  std::optional<RankMessage> Receive();

 private:
  // The memory of a message that MPI may not have read yet.
  struct Sent {
    MPI_Request request = MPI_REQUEST_NULL;
    std::array<std::int64_t, 4> words{};
  };

  void ForgetWhatLeft();

  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  int size_ = 1;
  std::list<std::unique_ptr<Sent>> sent_;
};

}  // namespace fr
