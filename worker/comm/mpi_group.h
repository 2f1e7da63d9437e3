#pragma once
// An MPI communicator and the way in which its thread waits: MPI's calls on plain memory.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <vector>

#include <mpi.h>

namespace fr {

// Where each rank's part of a buffer begins, and how long it is, in elements.
struct Layout {
  std::vector<int> counts;
  std::vector<int> offsets;
};

// `rows_per_rank` rows of `row_elements` each. Throws Error(kInvalidArgument) beyond 2^31 elements,
// which MPI cannot count.
Layout LayoutOf(const std::vector<std::int64_t>& rows_per_rank, std::int64_t row_elements,
                const char* collective);

// Throws Error(kUnavailable) unless `status` is MPI_SUCCESS.
void CheckMpi(int status, const char* collective, int rank);

class MpiGroup {
 public:
  // Longest nap between two looks at a collective under way; none: waiting happens within MPI,
  // which spins (least delay, one core busy).
  using Nap = std::chrono::microseconds;

  // A duplicate of `parent`; collective over it.
  MpiGroup(MPI_Comm parent, Nap longest_nap);
  ~MpiGroup();
  MpiGroup(const MpiGroup&) = delete;
  MpiGroup& operator=(const MpiGroup&) = delete;

  MPI_Comm comm() const { return comm_; }
  int rank() const { return rank_; }
  int size() const { return size_; }

  void AllReduce(void* data, int count, MPI_Datatype type, MPI_Op operation);
  // `own` nullptr: it lies in `all` where it belongs.
  void AllGather(const void* own, void* all, const Layout& layout, MPI_Datatype type);
  void Gather(const void* own, void* all, const Layout& layout, MPI_Datatype type, int root);
  void ReduceScatter(const void* full, void* own, const Layout& layout, MPI_Datatype type);
  void AllToAll(const void* send, const Layout& sent, void* receive, const Layout& received,
                MPI_Datatype type);
  void Broadcast(void* data, int count, MPI_Datatype type, int root);
  void Barrier();

  // From another thread: whoever naps gets Error(kUnavailable), now and from now on.
  void Abandon() { abandoned_ = true; }

 private:
  bool naps() const { return longest_nap_ > Nap::zero(); }
  // The call that spins, or the one that is started and waited for with naps.
  template <typename Blocking, typename Start>
  void Run(const char* collective, const Blocking& blocking, const Start& start);
  void Finish(MPI_Request& request, const char* collective);

  MPI_Comm comm_ = MPI_COMM_NULL;
  Nap longest_nap_;
  int rank_ = 0;
  int size_ = 1;
  std::atomic<bool> abandoned_ = false;
};

}  // namespace fr
