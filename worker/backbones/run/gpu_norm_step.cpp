#include <utility>

#include "worker/backbones/run/affine.h"
#include "worker/backbones/run/rows.h"
#include "worker/backbones/run/steps.h"
#include "worker/comm/communicator.h"
#include "worker/gpu/gpu.h"
#include "worker/gpu/gpu_kernels.h"

namespace fr {
namespace {

float* Floats(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.mutable_data_ptr<float>() : nullptr;
}

// The formulas of NormStep (norm_step.cpp).
class GpuNormStep : public Step {
 public:
  GpuNormStep(const Graph& graph, const NormNodes& nodes, const NetworkState& state,
              Communicator* comm)
      : Step(NormInputs(graph, nodes), nodes.output, graph.node(nodes.norm).block),
        gpu_(*ProcessGpu()),
        comm_(comm),
        epsilon_(graph.node(nodes.norm).epsilon),
        channels_(graph.node(nodes.norm).shape[0]),
        parameters_(state.Of(graph.node(nodes.norm))),
        activation_(nodes.activation ? *ActivationOf(graph.node(*nodes.activation).op)
                                     : Activation::kNone) {
    if (activation_ == Activation::kPrelu) {
      slope_ = state.Of(graph.node(*nodes.activation))[0];
    }
    const auto floats = at::TensorOptions(gpu_.device()).dtype(at::kFloat);
    vectors_ = at::zeros({kVectors, channels_}, floats);
    own_ = at::zeros({kGpuNormSums, channels_}, floats.dtype(at::kDouble));
    count_ = at::zeros({1}, floats.dtype(at::kDouble));
  }

  void Forward(Tape& tape, const PassMode& mode) override {
    x_ = AsRows(tape.value(inputs()[0]));
    if (!mode.again) TakeStatistics(!mode.trial);
    if (mode.again && mode.result_unused) return;
    at::Tensor residual;
    if (inputs().size() > 1) residual = AsRows(tape.value(inputs()[1]));
    at::Tensor y = at::empty_like(x_);
    NormForward work;
    work.bf16 = Bf16();
    work.activation = activation_;
    work.channels = channels_;
    work.x = x_.const_data_ptr();
    work.residual = residual.defined() ? residual.const_data_ptr() : nullptr;
    work.y = y.mutable_data_ptr();
    work.scale = Vector(kScale);
    work.offset = Vector(kOffset);
    work.slope = Floats(slope_);
    gpu_.kernels().norm_forward(work, Rows(), gpu_.stream());
    tape.value(output()) = y;
  }

  void Backward(Tape& tape) override {
    at::Tensor dy = AsRows(tape.TakeGradient(output()));
    GpuNormBackwardSums sums;
    NormBackward& work = sums.work;
    work.bf16 = Bf16();
    work.activation = activation_;
    work.channels = channels_;
    work.x = x_.const_data_ptr();
    work.dy = dy.const_data_ptr();
    work.scale = Vector(kScale);
    work.offset = Vector(kOffset);
    work.slope = Floats(slope_);
    work.mean = Vector(kMean);
    sums.rows = Rows();
    at::Tensor partial = Partial(3);
    sums.partial = Floats(partial);
    sums.sums = own_.mutable_data_ptr<double>();
    TakeGradients(sums);
    InputGradient(tape, work);
    if (inputs().size() > 1) tape.AddGradient(inputs()[1], std::move(dy));
    x_.reset();
  }

  void Forget() override { x_.reset(); }

 private:
  enum : std::int64_t { kMean, kInverseStd, kScale, kOffset, kShift, kA, kB, kD, kVectors };
  static_assert(kVectors == kGpuNormVectors, "what common/plan/gpu_memory.cpp counts");

  bool Bf16() const { return x_.scalar_type() == torch::kBFloat16; }
  std::int64_t Rows() const { return x_.numel() / channels_; }
  float* Vector(std::int64_t which) { return Floats(vectors_) + which * channels_; }
  at::Tensor Partial(std::int64_t kinds) const {
    return at::empty({GpuNormParts(Rows(), channels_), kinds, channels_}, vectors_.options());
  }

  void TakeStatistics(bool update_running) {
    at::Tensor partial = Partial(2);
    GpuMoments moments;
    moments.bf16 = Bf16();
    moments.rows = Rows();
    moments.channels = channels_;
    moments.x = x_.const_data_ptr();
    moments.partial = Floats(partial);
    moments.sums = own_.mutable_data_ptr<double>();
    moments.shift = Vector(kShift);
    GpuNormStatistics statistics;
    statistics.channels = channels_;
    statistics.own_count = static_cast<double>(Rows());
    statistics.sums = moments.sums;
    statistics.shift = moments.shift;
    statistics.epsilon = epsilon_;
    statistics.weight = Floats(parameters_[0]);
    statistics.bias = Floats(parameters_[1]);
    statistics.out = {Vector(kMean), Vector(kInverseStd), Vector(kScale), Vector(kOffset)};
    if (update_running) {
      statistics.running_mean = Floats(parameters_[2]);
      statistics.running_variance = Floats(parameters_[3]);
      statistics.batches = parameters_[4].mutable_data_ptr<std::int64_t>();
    }
    gpu_.kernels().moments(moments, comm_ == nullptr ? &statistics : nullptr, gpu_.stream());
    if (comm_ != nullptr) TakeGlobalStatistics(&statistics);
  }

  // The ranks' means first, then the squares around the common one (Chan et al.), for
  // E[x^2] - E[x]^2 would cancel.
  void TakeGlobalStatistics(GpuNormStatistics* statistics) {
    const auto rows = static_cast<double>(Rows());
    const at::Tensor shift = vectors_[kShift].to(at::kDouble);
    const at::Tensor first = own_[0];
    const at::Tensor second = own_[1];
    at::Tensor sums = at::cat({first + rows * shift, at::full({1}, rows, first.options())});
    comm_->AllReduceSum(sums);
    const at::Tensor mean = sums.slice(0, 0, channels_) / sums[channels_].clamp_min(1);
    const at::Tensor from_shift = mean - shift;
    at::Tensor squares = second - 2 * from_shift * first + rows * from_shift * from_shift;
    comm_->AllReduceSum(squares);
    count_.copy_(sums.slice(0, channels_));
    const at::Tensor both = at::cat({sums.slice(0, 0, channels_), squares});
    statistics->count = count_.const_data_ptr<double>();
    statistics->sums = both.const_data_ptr<double>();
    statistics->shift = nullptr;
    gpu_.kernels().norm_statistics(*statistics, gpu_.stream());
  }

  void TakeGradients(const GpuNormBackwardSums& sums) {
    const auto gradient = [](const at::Tensor& parameter) {
      return parameter.defined() ? Floats(parameter.grad()) : nullptr;
    };
    GpuNormGradients work;
    work.channels = channels_;
    work.own = own_.const_data_ptr<double>();
    work.own_count = static_cast<double>(Rows());
    work.weight = Floats(parameters_[0]);
    work.mean = Vector(kMean);
    work.inverse_std = Vector(kInverseStd);
    work.weight_gradient = gradient(parameters_[0]);
    work.bias_gradient = gradient(parameters_[1]);
    work.slope_gradient = gradient(slope_);
    work.a = Vector(kA);
    work.b = Vector(kB);
    work.d = Vector(kD);
    gpu_.kernels().norm_backward_sums(sums, comm_ == nullptr ? &work : nullptr, gpu_.stream());
    if (comm_ == nullptr) return;
    at::Tensor all = own_.slice(0, 0, 2).clone();
    comm_->AllReduceSum(all);
    work.all = all.const_data_ptr<double>();
    work.count = count_.const_data_ptr<double>();
    gpu_.kernels().norm_gradients(work, gpu_.stream());
  }

  void InputGradient(Tape& tape, NormBackward work) {
    if (!NeedsGradient(inputs()[0])) return;
    work.a = Vector(kA);
    work.b = Vector(kB);
    work.d = Vector(kD);
    // What others gave x so far is summed on the way.
    at::Tensor other = tape.TakeGradient(inputs()[0]);
    at::Tensor dx;
    if (other.defined() && MayWriteInto(other)) {
      dx = other;
    } else {
      if (other.defined()) other = AsRows(other.to(x_.scalar_type()));
      dx = at::empty_like(x_);
    }
    work.add = other.defined() ? other.const_data_ptr() : nullptr;
    work.dx = dx.mutable_data_ptr();
    gpu_.kernels().norm_backward_input(work, Rows(), gpu_.stream());
    other.reset();
    tape.AddGradient(inputs()[0], std::move(dx));
  }

  bool MayWriteInto(const at::Tensor& gradient) const {
    return Tape::IsOwn(gradient) && gradient.is_contiguous(x_.suggest_memory_format()) &&
           gradient.scalar_type() == x_.scalar_type();
  }

  Gpu& gpu_;
  Communicator* comm_;
  double epsilon_;
  std::int64_t channels_;
  std::vector<at::Tensor> parameters_;
  Activation activation_;
  at::Tensor slope_;

  at::Tensor x_;
  at::Tensor vectors_;  // [kVectors, channels] float32
  at::Tensor own_;      // [3, channels] float64: sums over this rank's rows
  at::Tensor count_;    // [1] float64: rows of all ranks, with `comm_`
};

}  // namespace

std::unique_ptr<Step> MakeGpuNormStep(const Graph& graph, const NormNodes& nodes,
                                      const NetworkState& state, Communicator* comm) {
  return std::make_unique<GpuNormStep>(graph, nodes, state, comm);
}

}  // namespace fr
