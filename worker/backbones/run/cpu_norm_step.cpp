#include <cmath>

#include "worker/backbones/run/norm_step.h"
#include "worker/backbones/run/rows.h"
#include "worker/comm/communicator.h"

namespace fr {
namespace {

// Sums `values` over ranks.
void SumOverRanks(std::vector<double>& values, Communicator* comm) {
  if (comm == nullptr) return;
  at::Tensor tensor =
      at::from_blob(values.data(), {static_cast<std::int64_t>(values.size())}, torch::kFloat64);
  comm->AllReduceSum(tensor);
}

// Of a batch, by channel, in float64.
struct Statistics {
  double count = 0;
  std::vector<double> mean;
  std::vector<double> variance;  // biased
};

class CpuNormStep final : public NormStep {
 public:
  using NormStep::NormStep;

 private:
  Vectors vectors() const override { return {mean_.data(), scale_.data(), offset_.data()}; }

  void NormForwardPass(const NormForward& work) override {
    at::parallel_for(0, Rows(), GrainRows(channels_), [&](std::int64_t begin, std::int64_t end) {
      kernels_.norm_forward(work, begin, end, {});
    });
  }

  void TakeGradients(NormBackward* work) override {
    std::vector<double> sums = GradientSumsOf(*work);
    AddParameterGradients(sums);
    sums.resize(static_cast<std::size_t>(2 * channels_));
    SumOverRanks(sums, comm_);
    const auto channels = static_cast<std::size_t>(channels_);
    for (auto* vector : {&a_, &b_, &d_}) vector->resize(channels);
    const float* weight = parameters_[0].const_data_ptr<float>();
    for (std::size_t c = 0; c < channels; ++c) {
      const double i = inverse_std_[c];
      const double slope = weight[c] * i * i * i * sums[channels + c] / count_;
      a_[c] = static_cast<float>(weight[c] * i);
      b_[c] = static_cast<float>(-slope);
      d_[c] = static_cast<float>(slope * mean_[c] - weight[c] * i * sums[c] / count_);
    }
    work->a = a_.data();
    work->b = b_.data();
    work->d = d_.data();
  }

  void InputGradientPass(const NormBackward& work) override {
    at::parallel_for(0, Rows(), GrainRows(channels_), [&](std::int64_t begin, std::int64_t end) {
      kernels_.norm_backward_input(work, begin, end);
    });
  }

  void TakeStatistics(bool update_running) override {
    const Statistics statistics = BatchStatistics();
    count_ = std::max(statistics.count, 1.0);
    const float* weight = parameters_[0].const_data_ptr<float>();
    const float* bias = parameters_[1].const_data_ptr<float>();
    const auto channels = static_cast<std::size_t>(channels_);
    for (auto* vector : {&mean_, &scale_, &offset_}) vector->resize(channels);
    inverse_std_.resize(channels);
    for (std::size_t c = 0; c < channels; ++c) {
      inverse_std_[c] = 1 / std::sqrt(statistics.variance[c] + epsilon_);
      const double scale = weight[c] * inverse_std_[c];
      mean_[c] = static_cast<float>(statistics.mean[c]);
      scale_[c] = static_cast<float>(scale);
      offset_[c] = static_cast<float>(bias[c] - statistics.mean[c] * scale);
    }
    // A rank may have no images, where its statistics are its own.
    if (update_running && statistics.count > 0) UpdateRunning(statistics);
  }

  // Mean and variance over the rows of all ranks: the ranks' means first, then the squares around
  // the common one (Chan et al.), for E[x^2] - E[x]^2 would cancel.
  Statistics BatchStatistics() const {
    const std::int64_t rows = Rows();
    const auto channels = static_cast<std::size_t>(channels_);
    const std::vector<float> shift = FirstRow();
    Moments work;
    work.bf16 = Bf16();
    work.channels = channels_;
    work.x = x_.const_data_ptr();
    work.shift = shift.data();
    const std::vector<double> local =
        SumOverRows(rows, GrainRows(channels_), 2 * channels_,
                    [&](std::int64_t begin, std::int64_t end, double* sums) {
                      kernels_.moments(work, begin, end, {sums, sums + channels_});
                    });
    const auto own = static_cast<double>(rows);
    std::vector<double> sums(channels + 1);  // of x, by channel; rows
    for (std::size_t c = 0; c < channels; ++c) sums[c] = local[c] + own * shift[c];
    sums[channels] = own;
    SumOverRanks(sums, comm_);
    Statistics statistics;
    statistics.count = sums[channels];
    const double count = std::max(statistics.count, 1.0);
    statistics.mean.resize(channels);
    statistics.variance.resize(channels);
    for (std::size_t c = 0; c < channels; ++c) {
      statistics.mean[c] = sums[c] / count;
      const double from_shift = statistics.mean[c] - shift[c];
      statistics.variance[c] =
          local[channels + c] - 2 * from_shift * local[c] + own * from_shift * from_shift;
    }
    SumOverRanks(statistics.variance, comm_);
    for (double& variance : statistics.variance) {
      variance = std::max(variance / count, 0.0);
    }
    return statistics;
  }

  // As good a guess of the mean as any: differences to it are small.
  std::vector<float> FirstRow() const {
    if (x_.numel() == 0) return std::vector<float>(static_cast<std::size_t>(channels_), 0.0F);
    const at::Tensor pixel = x_.dim() == 4 ? x_.select(0, 0).select(1, 0).select(1, 0) : x_[0];
    const at::Tensor first = pixel.to(torch::kFloat32).contiguous();
    const float* data = first.const_data_ptr<float>();
    return {data, data + channels_};
  }

  void UpdateRunning(const Statistics& statistics) {
    const double unbiased = statistics.count / std::max(statistics.count - 1, 1.0);
    auto* mean = parameters_[2].mutable_data_ptr<float>();
    auto* variance = parameters_[3].mutable_data_ptr<float>();
    for (std::size_t c = 0; c < statistics.mean.size(); ++c) {
      const auto sample_variance = static_cast<float>(statistics.variance[c] * unbiased);
      // One batch that is not finite would stay in the means for ever.
      if (!std::isfinite(sample_variance)) continue;
      mean[c] += static_cast<float>(kNormMomentum * (statistics.mean[c] - mean[c]));
      variance[c] +=
          static_cast<float>(kNormMomentum * (statistics.variance[c] * unbiased - variance[c]));
    }
    *parameters_[4].mutable_data_ptr<std::int64_t>() += 1;
  }

  // g, g (x - mean) and, with PReLU, the slopes' gradients: [2 or 3][channels] over own rows.
  std::vector<double> GradientSumsOf(const NormBackward& work) const {
    const std::int64_t kinds = slope_.defined() ? 3 : 2;
    return SumOverRows(
        Rows(), GrainRows(channels_), kinds * channels_,
        [&](std::int64_t begin, std::int64_t end, double* sums) {
          double* slope = kinds == 3 ? sums + 2 * channels_ : nullptr;
          kernels_.norm_backward_sums(work, begin, end, {sums, sums + channels_, slope});
        });
  }

  void AddParameterGradients(const std::vector<double>& sums) {
    const auto add = [&](const at::Tensor& parameter, const double* values, const double* factors) {
      if (!parameter.grad().defined()) return;
      auto* gradient = parameter.grad().mutable_data_ptr<float>();
      for (std::int64_t c = 0; c < channels_; ++c) {
        gradient[c] += static_cast<float>(values[c] * (factors == nullptr ? 1.0 : factors[c]));
      }
    };
    add(parameters_[0], sums.data() + channels_, inverse_std_.data());
    add(parameters_[1], sums.data(), nullptr);
    if (slope_.defined()) add(slope_, sums.data() + 2 * channels_, nullptr);
  }

  const BackboneKernels& kernels_ = SelectBackboneKernels();
  double count_ = 0;  // rows of all ranks
  std::vector<float> mean_;
  std::vector<float> scale_;
  std::vector<float> offset_;
  std::vector<double> inverse_std_;
  std::vector<float> a_;
  std::vector<float> b_;
  std::vector<float> d_;
};

}  // namespace

std::unique_ptr<Step> MakeCpuNormStep(const Graph& graph, const NormNodes& nodes,
                                      const NetworkState& state, Communicator* comm) {
  return std::make_unique<CpuNormStep>(graph, nodes, state, comm);
}

}  // namespace fr
