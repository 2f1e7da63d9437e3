#pragma once
// Collectives over the ranks of a job, on CPU tensors through MPI.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <torch/torch.h>

namespace fr {

// Owns MPI_Init_thread and MPI_Finalize; one a process, made in main. Only the thread that made it
// may call collectives (MPI_THREAD_FUNNELED); other threads of ours never touch MPI.
class MpiSession {
 public:
  MpiSession(int* argc, char*** argv);
  // Finalizes. While an exception unwinds the stack, aborts instead: peers would otherwise wait for
  // this rank for ever.
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  // Ends every rank of the job at once with `exit_code`; for a rank that cannot go on.
  [[noreturn]] static void Abort(int exit_code);
};

// Every rank calls the same methods in the same order. Tensors are contiguous CPU tensors of
// float, double, int64 or uint8; others throw Error(kInvalidArgument). A failure inside MPI throws
// Error(kUnavailable) that names the collective and this rank.
class Communicator {
 public:
  Communicator();  // over MPI_COMM_WORLD, in a communicator of its own
  // Over this process alone: what one rank would compute, next to what many do.
  struct Self {};
  explicit Communicator(Self);
  ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return rank_; }
  int world_size() const { return world_size_; }
  int ranks_on_this_host() const { return ranks_on_this_host_; }

  // In place, over all ranks. More than 2^31 elements are sent in pieces.
  void AllReduceSum(at::Tensor& tensor);
  void AllReduceMax(at::Tensor& tensor);

  // Rows of all ranks in rank order: local [rows_per_rank[rank], ...] -> [sum, ...].
  at::Tensor AllGatherRows(const at::Tensor& local, const std::vector<std::int64_t>& rows_per_rank);

  // Sum over ranks of full [sum(rows_per_rank), ...], of which this rank gets its own rows.
  at::Tensor ReduceScatterRows(const at::Tensor& full,
                               const std::vector<std::int64_t>& rows_per_rank);

  void Broadcast(at::Tensor& tensor, int root);
  std::string BroadcastBytes(const std::string& bytes, int root);            // result on every rank
  std::vector<std::string> GatherBytes(const std::string& bytes, int root);  // empty elsewhere
  std::vector<std::int64_t> AllGather(std::int64_t value);
  void Barrier();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  int rank_ = 0;
  int world_size_ = 1;
  int ranks_on_this_host_ = 1;
};

}  // namespace fr
