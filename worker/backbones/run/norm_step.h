#pragma once
// What a batch norm with its activation and its shortcut does in training, on any device.

#include <cstdint>
#include <memory>
#include <vector>

#include "worker/backbones/kernels/backbone_kernels.h"
#include "worker/backbones/run/steps.h"

namespace fr {

// y = act(s x + o) + r with s = w i, o = b - m w i, m and i the batch's mean and inverse standard
// deviation; g = dy act'(s x + o). With N rows,
//   db = sum g      dw = i sum g (x - m)      dr = dy
//   dx = w i (g - sum(g) / N - (x - m) i^2 sum(g (x - m)) / N)
// where sums for dx run over all ranks, those for db and dw over this rank's images: gradients of
// parameters are summed over ranks later.
class NormStep : public Step {
 public:
  NormStep(const Graph& graph, const NormNodes& nodes, const NetworkState& state,
           Communicator* comm);

  void Forward(Tape& tape, const PassMode& mode) final;
  void Backward(Tape& tape) final;
  void Forget() final { x_.reset(); }

 protected:
  // Of the batch that x_ is; of all ranks' with a communicator.
  virtual void TakeStatistics(bool update_running) = 0;
  // m, s and o, by channel, where the kernels read them; after TakeStatistics.
  struct Vectors {
    const float* mean = nullptr;
    const float* scale = nullptr;
    const float* offset = nullptr;
  };
  virtual Vectors vectors() const = 0;
  virtual void NormForwardPass(const NormForward& work) = 0;
  // Adds the parameters' gradients, and gives `work` its a, b and d, which stay until the next
  // call.
  virtual void TakeGradients(NormBackward* work) = 0;
  virtual void InputGradientPass(const NormBackward& work) = 0;

  bool Bf16() const { return x_.scalar_type() == torch::kBFloat16; }
  std::int64_t Rows() const { return x_.numel() / channels_; }

  Communicator* comm_;
  double epsilon_;
  std::int64_t channels_;
  std::vector<at::Tensor> parameters_;
  at::Tensor slope_;  // of PReLU; undefined: another activation
  at::Tensor x_;

 private:
  NormBackward BackwardWork(const at::Tensor& dy) const;
  void InputGradient(Tape& tape, NormBackward work);
  bool MayWriteInto(const at::Tensor& gradient) const;
  const float* Slope() const;

  Activation activation_;
};

// By several threads of the processor.
std::unique_ptr<Step> MakeCpuNormStep(const Graph& graph, const NormNodes& nodes,
                                      const NetworkState& state, Communicator* comm);
// On the process's GPU, where the vectors by channel stay: nothing waits for the processor.
std::unique_ptr<Step> MakeGpuNormStep(const Graph& graph, const NormNodes& nodes,
                                      const NetworkState& state, Communicator* comm);

}  // namespace fr
