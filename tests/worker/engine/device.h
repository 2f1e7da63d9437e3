#pragma once
// The device that the engine's tests run on (main.cpp), and a communicator for its tensors.
//
// Inputs are drawn on the processor, so that every device gets the same ones, and go to the device
// with OnDevice(); what comes back is compared on the processor. Where the processor computes, both
// do nothing.

#include <memory>
#include <utility>
#include <vector>

#include <torch/torch.h>

#include "worker/comm/mpi_communicator.h"
#include "worker/gpu/gpu.h"

namespace fr {

inline at::Tensor OnDevice(const at::Tensor& tensor) { return tensor.to(ComputeDevice()); }

// MPI's collectives, for tensors on a GPU through the processor's memory: NCCL has no two ranks on
// one GPU, and these tests have up to four.
class TestCommunicator : public MpiCommunicator {
 public:
  using MpiCommunicator::MpiCommunicator;

  void AllReduceSum(at::Tensor& tensor) override {
    at::Tensor host = tensor.cpu();
    MpiCommunicator::AllReduceSum(host);
    if (!tensor.is_same(host)) tensor.copy_(host);
  }
  void AllReduceMax(at::Tensor& tensor) override {
    at::Tensor host = tensor.cpu();
    MpiCommunicator::AllReduceMax(host);
    if (!tensor.is_same(host)) tensor.copy_(host);
  }
  void Broadcast(at::Tensor& tensor, int root) override {
    at::Tensor host = tensor.cpu();
    MpiCommunicator::Broadcast(host, root);
    if (!tensor.is_same(host)) tensor.copy_(host);
  }
  at::Tensor AllGatherRows(const at::Tensor& local,
                           const std::vector<std::int64_t>& rows_per_rank) override {
    return MpiCommunicator::AllGatherRows(local.cpu(), rows_per_rank).to(local.device());
  }
  at::Tensor ReduceScatterRows(const at::Tensor& full,
                               const std::vector<std::int64_t>& rows_per_rank) override {
    return MpiCommunicator::ReduceScatterRows(full.cpu(), rows_per_rank).to(full.device());
  }
  std::unique_ptr<PendingCollective> StartAllReduceSum(at::Tensor tensor, Wire wire) override {
    const at::Tensor host = tensor.cpu();
    auto pending = MpiCommunicator::StartAllReduceSum(host, wire);
    if (tensor.is_same(host)) return pending;
    return std::make_unique<CopiedBack>(std::move(pending), host, std::move(tensor));
  }

 private:
  class CopiedBack : public PendingCollective {
   public:
    CopiedBack(std::unique_ptr<PendingCollective> pending, at::Tensor host, at::Tensor tensor)
        : pending_(std::move(pending)), host_(std::move(host)), tensor_(std::move(tensor)) {}
    TimeSpan Wait() override {
      const TimeSpan span = pending_->Wait();
      if (host_.defined()) tensor_.copy_(host_);
      host_.reset();  // a second call returns the same, whatever was done with the tensor since
      return span;
    }

   private:
    std::unique_ptr<PendingCollective> pending_;
    at::Tensor host_;
    at::Tensor tensor_;
  };
};

}  // namespace fr
