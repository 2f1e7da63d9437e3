#include "worker/backbones/batch_norm.h"

#include <algorithm>

#include "worker/comm/communicator.h"

namespace fr {
namespace {

constexpr double kEpsilon = 1e-5;
constexpr double kMomentum = 0.1;

// [c] -> [1, c, 1, 1], to go with x.
torch::Tensor LikeChannels(const torch::Tensor& per_channel, const torch::Tensor& x) {
  return x.dim() == 4 ? per_channel.view({1, -1, 1, 1}) : per_channel.view({1, -1});
}

// Sum over everything but channels, in double: [c].
torch::Tensor ChannelSum(const torch::Tensor& x) {
  const std::vector<std::int64_t> four = {0, 2, 3};
  const std::vector<std::int64_t> two = {0};
  // Images first in float, images and pixels in double, would be faster; exactness is what this
  // mode is for.
  return x.sum(x.dim() == 4 ? four : two, /*keepdim=*/false, torch::kFloat64);
}

// Normalisation by the statistics of all ranks. With N the pixels of the global batch, m the mean,
// i = 1/sqrt(var + eps):
//   y = (x - m) i w + b
//   dx = w i (dy - sum(dy)/N - (x - m) i^2 sum(dy (x - m))/N), sums over all ranks
// The gradients of w and b stay those of this rank's images, for all backbone gradients are summed
// over ranks later.
struct GlobalBatchNorm : torch::autograd::Function<GlobalBatchNorm> {
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& x,
                               const torch::Tensor& weight, const torch::Tensor& bias,
                               const torch::Tensor& mean, const torch::Tensor& inverse_std,
                               double count, std::int64_t comm_address) {
    const torch::Tensor normal = (x - LikeChannels(mean, x)) * LikeChannels(inverse_std, x);
    context->save_for_backward({normal, weight, inverse_std});
    context->saved_data["count"] = count;
    context->saved_data["comm"] = comm_address;
    return normal * LikeChannels(weight, x) + LikeChannels(bias, x);
  }

  static torch::autograd::tensor_list backward(torch::autograd::AutogradContext* context,
                                               torch::autograd::tensor_list gradients) {
    const auto saved = context->get_saved_variables();
    const torch::Tensor& normal = saved[0];
    const torch::Tensor& dy = gradients[0];
    auto* comm = reinterpret_cast<Communicator*>(context->saved_data["comm"].toInt());
    const double count = context->saved_data["count"].toDouble();
    const torch::Tensor local = torch::stack({ChannelSum(dy), ChannelSum(dy * normal)});
    torch::Tensor global = local.clone();
    comm->AllReduceSum(global);
    const torch::Tensor means = (global / count).to(torch::kFloat32);
    const torch::Tensor dx =
        (dy - LikeChannels(means[0], dy) - normal * LikeChannels(means[1], dy)) *
        LikeChannels(saved[1] * saved[2], dy);
    return {dx, local[1].to(torch::kFloat32), local[0].to(torch::kFloat32), {}, {}, {}, {}};
  }
};

// Mean and centred sum of squares over all ranks, [c] each in double, and the number of pixels.
struct Statistics {
  torch::Tensor mean;
  torch::Tensor variance;  // biased
  double count = 0;
};

Statistics GlobalStatistics(const torch::Tensor& x, Communicator& comm) {
  const torch::NoGradGuard no_grad;
  const double local_count = static_cast<double>(x.numel()) / static_cast<double>(x.size(1));
  torch::Tensor sums = torch::cat(
      {ChannelSum(x), torch::full({1}, local_count, torch::TensorOptions(torch::kFloat64))});
  comm.AllReduceSum(sums);
  Statistics statistics;
  statistics.count = sums[-1].item<double>();
  statistics.mean = sums.slice(0, 0, -1) / statistics.count;
  // Centred in a second round: E[x^2] - E[x]^2 would cancel.
  torch::Tensor squares =
      ChannelSum((x - LikeChannels(statistics.mean.to(torch::kFloat32), x)).square());
  comm.AllReduceSum(squares);
  statistics.variance = squares / statistics.count;
  return statistics;
}

}  // namespace

BatchNorm::BatchNorm(std::int64_t channels, Communicator* comm, bool fixed_weight)
    : comm_(comm),
      weight_(register_parameter("weight", torch::ones({channels}), !fixed_weight)),
      bias_(register_parameter("bias", torch::zeros({channels}))),
      running_mean_(register_buffer("running_mean", torch::zeros({channels}))),
      running_var_(register_buffer("running_var", torch::ones({channels}))),
      num_batches_tracked_(
          register_buffer("num_batches_tracked", torch::zeros({}, torch::kInt64))) {}

torch::Tensor BatchNorm::forward(const torch::Tensor& x) {
  if (is_training()) num_batches_tracked_.add_(1);
  if (!is_training() || comm_ == nullptr) {
    return torch::batch_norm(x, weight_, bias_, running_mean_, running_var_, is_training(),
                             kMomentum, kEpsilon, /*cudnn_enabled=*/false);
  }
  const Statistics statistics = GlobalStatistics(x, *comm_);
  const double unbiased = statistics.count / std::max(statistics.count - 1, 1.0);
  running_mean_.lerp_(statistics.mean.to(torch::kFloat32), kMomentum);
  running_var_.lerp_((statistics.variance * unbiased).to(torch::kFloat32), kMomentum);
  return GlobalBatchNorm::apply(x, weight_, bias_, statistics.mean.to(torch::kFloat32),
                                (statistics.variance + kEpsilon).rsqrt().to(torch::kFloat32),
                                statistics.count, reinterpret_cast<std::int64_t>(comm_));
}

}  // namespace fr
