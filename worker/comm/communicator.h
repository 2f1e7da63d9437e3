#pragma once
// Collectives over the ranks of a job.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <torch/torch.h>

namespace fr {

// How the floats of a sum travel.
//
// kFloat32: as they are.
// kBFloat16: in half the bytes. Every rank rounds its values x_r to bfloat16, they are added in
// float32 in rank order, and the sum is rounded once more. Of the exact sum that is within
//   2^-7 (1 + 2^-7) sum_r |x_r| + (p + 1) 2^-134       (p ranks; the last term is of subnormals)
// element by element, whatever else is in the tensor. One rank alone sends and rounds nothing.
enum class Wire { kFloat32, kBFloat16 };

// When something ran, on the clock that never jumps.
struct TimeSpan {
  std::int64_t begin_ns = 0;
  std::int64_t end_ns = 0;
};

// A collective on its way. Destroyed without Wait() it still takes place; its failure is lost.
class PendingCollective {
 public:
  virtual ~PendingCollective() = default;
  // Returns when the result is there, and says when the work for it was done; waiting costs no
  // processor time. Throws what failed. More calls return or throw the same. For a tensor on a GPU
  // it returns at once: what the caller's current stream is given from now on finds the result.
  virtual TimeSpan Wait() = 0;
};

// Every rank calls the same methods in the same order, from one thread at a time. Tensors are
// contiguous, of float, double, int64, uint8, and, where nothing is added, bfloat16; others throw
// Error(kInvalidArgument). They lie on the processor, or, for NcclCommunicator, on the GPU, with
// whose current stream the collectives are in order then. A failure of the transport throws
// Error(kUnavailable) that names the collective and this rank.
class Communicator {
 public:
  Communicator() = default;
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  virtual int rank() const = 0;
  virtual int world_size() const = 0;
  virtual int ranks_on_this_host() const = 0;
  virtual int rank_on_this_host() const = 0;  // among these, from 0

  // In place, over all ranks. More than 2^31 elements are sent in pieces.
  virtual void AllReduceSum(at::Tensor& tensor) = 0;
  virtual void AllReduceMax(at::Tensor& tensor) = 0;

  // Begins AllReduceSum of a float32 tensor and returns at once: it takes place on a thread of its
  // own, one after the other in the order of these calls, beside the collectives of the caller.
  // Until Wait() returned nobody touches the memory of `tensor`, which the collective keeps alive.
  // Added in rank order: the same bits on every rank and in every run, however a buffer is cut into
  // tensors. (NcclCommunicator adds float32 in an order of NCCL's unless SetDeterministic: the same
  // bits on every rank, but no more.) After a failure all later ones fail alike.
  virtual std::unique_ptr<PendingCollective> StartAllReduceSum(at::Tensor tensor, Wire wire) = 0;

  // Rows of all ranks in rank order: local [rows_per_rank[rank], ...] -> [sum, ...].
  virtual at::Tensor AllGatherRows(const at::Tensor& local,
                                   const std::vector<std::int64_t>& rows_per_rank) = 0;

  // Sum over ranks of full [sum(rows_per_rank), ...], of which this rank gets its own rows.
  virtual at::Tensor ReduceScatterRows(const at::Tensor& full,
                                       const std::vector<std::int64_t>& rows_per_rank) = 0;

  virtual void Broadcast(at::Tensor& tensor, int root) = 0;
  // The root's bytes, on every rank.
  virtual std::string BroadcastBytes(const std::string& bytes, int root) = 0;
  // In rank order on the root; empty elsewhere.
  virtual std::vector<std::string> GatherBytes(const std::string& bytes, int root) = 0;
  virtual std::vector<std::int64_t> AllGather(std::int64_t value) = 0;
  virtual void Barrier() = 0;

  // From now on float and double sums (AllReduceSum, ReduceScatterRows) are taken in rank order,
  // ((x_0 + x_1) + x_2) + ..., each operation rounded to the tensor's type: the same bits in every
  // run on as many ranks, whatever algorithm the library below would choose. All ranks agree on it.
  virtual void SetDeterministic(bool deterministic) = 0;

  // The same ranks in a communicator of its own, which ANOTHER thread may use while this one is in
  // use: for work that may take its time. Its collectives sleep while they wait, 1 ms at most at a
  // time. Collective.
  virtual std::unique_ptr<Communicator> Duplicate() = 0;
};

}  // namespace fr
