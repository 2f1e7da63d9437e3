#pragma once
// Collectives through MPI.

#include <memory>
#include <string>
#include <vector>

#include "worker/comm/communicator.h"

namespace fr {

class CommunicationThread;
class MpiGroup;
class RankMessages;

// Owns MPI_Init_thread and MPI_Finalize; one a process, made in main. Every communicator may be
// used by another thread (MPI_THREAD_MULTIPLE); throws Error(kUnavailable) if the library cannot.
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

class MpiCommunicator : public Communicator {
 public:
  MpiCommunicator();  // over MPI_COMM_WORLD, in a communicator of its own
  // Over this process alone: what one rank would compute, next to what many do.
  struct Self {};
  explicit MpiCommunicator(Self);
  // Ends what StartAllReduceSum began. While an exception unwinds the stack it gives it up instead:
  // peers may never come.
  ~MpiCommunicator() override;

  int rank() const override;
  int world_size() const override;
  int ranks_on_this_host() const override { return host_.ranks; }
  int rank_on_this_host() const override { return host_.rank; }

  void AllReduceSum(at::Tensor& tensor) override;
  void AllReduceMax(at::Tensor& tensor) override;
  // The first call is collective: it makes the thread's own communicator.
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
  void SetDeterministic(bool deterministic) override { deterministic_ = deterministic; }
  std::unique_ptr<Communicator> Duplicate() override;

  // Between the same ranks, beside all collectives. Collective.
  std::unique_ptr<RankMessages> NewMessages() const;

 private:
  MpiCommunicator(std::unique_ptr<MpiGroup> group, const MpiCommunicator& like);

  void BroadcastPieces(void* bytes, std::int64_t size, int root);

  std::unique_ptr<MpiGroup> group_;
  struct Host {
    int ranks = 1;
    int rank = 0;
  };
  static Host HostOf(const MpiGroup& group);

  Host host_;
  bool deterministic_ = false;
  // Of StartAllReduceSum, from its first call on.
  std::unique_ptr<MpiGroup> thread_group_;
  std::unique_ptr<CommunicationThread> thread_;
};

}  // namespace fr
