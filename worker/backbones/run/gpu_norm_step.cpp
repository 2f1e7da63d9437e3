#include "worker/backbones/run/norm_step.h"
#include "worker/comm/communicator.h"
#include "worker/gpu/gpu.h"
#include "worker/gpu/gpu_kernels.h"

namespace fr {
namespace {

float* Floats(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.mutable_data_ptr<float>() : nullptr;
}

class GpuNormStep final : public NormStep {
 public:
  GpuNormStep(const Graph& graph, const NormNodes& nodes, const NetworkState& state,
              Communicator* comm)
      : NormStep(graph, nodes, state, comm), gpu_(*ProcessGpu()) {
    const auto floats = at::TensorOptions(gpu_.device()).dtype(at::kFloat);
    vectors_ = at::zeros({kVectors, channels_}, floats);
    own_ = at::zeros({kGpuNormSums, channels_}, floats.dtype(at::kDouble));
    count_ = at::zeros({1}, floats.dtype(at::kDouble));
  }

 private:
  enum : std::int64_t { kMean, kInverseStd, kScale, kOffset, kShift, kA, kB, kD, kVectors };
  static_assert(kVectors == kGpuNormVectors, "what common/plan/gpu_memory.cpp counts");

  Vectors vectors() const override { return {Vector(kMean), Vector(kScale), Vector(kOffset)}; }

  void NormForwardPass(const NormForward& work) override {
    gpu_.kernels().norm_forward(work, Rows(), gpu_.stream());
  }
  void InputGradientPass(const NormBackward& work) override {
    gpu_.kernels().norm_backward_input(work, Rows(), gpu_.stream());
  }

  float* Vector(std::int64_t which) const { return Floats(vectors_) + which * channels_; }
  at::Tensor Partial(std::int64_t kinds) const {
    return at::empty({GpuNormParts(Rows(), channels_), kinds, channels_}, vectors_.options());
  }

  void TakeStatistics(bool update_running) override {
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

  void TakeGradients(NormBackward* norm) override {
    at::Tensor partial = Partial(kGpuNormSums);
    const GpuNormBackwardSums sums{*norm, Rows(), Floats(partial), own_.mutable_data_ptr<double>()};
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
    if (comm_ != nullptr) TakeGlobalGradients(&work);
    norm->a = work.a;
    norm->b = work.b;
    norm->d = work.d;
  }

  void TakeGlobalGradients(GpuNormGradients* work) {
    at::Tensor all = own_.slice(0, 0, 2).clone();
    comm_->AllReduceSum(all);
    work->all = all.const_data_ptr<double>();
    work->count = count_.const_data_ptr<double>();
    gpu_.kernels().norm_gradients(*work, gpu_.stream());
  }

  Gpu& gpu_;
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
