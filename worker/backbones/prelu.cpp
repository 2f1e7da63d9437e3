#include "worker/backbones/prelu.h"

#include <algorithm>
#include <vector>

#include <ATen/Parallel.h>

#include "common/base/error.h"
#include "worker/simd.h"

namespace fr {
namespace {

// Pixels per piece of parallel work: enough to be worth a thread.
constexpr std::int64_t kGrainElements = 32 * 1024;

std::int64_t GrainRows(std::int64_t channels) {
  return std::max<std::int64_t>(1, kGrainElements / channels);
}

// x as rows of channels: [n h w, c] behind channels-last memory.
torch::Tensor ChannelsLast(const torch::Tensor& x) {
  return x.dim() == 4 ? x.contiguous(torch::MemoryFormat::ChannelsLast) : x.contiguous();
}

FR_SIMD_CLONES
void ForwardRows(const float* x, const float* weight, float* y, std::int64_t rows,
                 std::int64_t channels) {
  for (std::int64_t row = 0; row < rows; ++row, x += channels, y += channels) {
#pragma omp simd
    for (std::int64_t c = 0; c < channels; ++c) y[c] = x[c] > 0 ? x[c] : weight[c] * x[c];
  }
}

// Adds to grad_weight [channels].
FR_SIMD_CLONES
void BackwardRows(const float* grad, const float* x, const float* weight, float* grad_x,
                  float* grad_weight, std::int64_t rows, std::int64_t channels) {
  for (std::int64_t row = 0; row < rows; ++row) {
#pragma omp simd
    for (std::int64_t c = 0; c < channels; ++c) {
      const float positive = x[c] > 0 ? 1.0F : 0.0F;
      grad_x[c] = grad[c] * (positive + (1.0F - positive) * weight[c]);
      grad_weight[c] += (1.0F - positive) * grad[c] * x[c];
    }
    grad += channels;
    x += channels;
    grad_x += channels;
  }
}

void Forward(const float* x, const float* weight, float* y, std::int64_t rows,
             std::int64_t channels) {
  at::parallel_for(0, rows, GrainRows(channels), [=](std::int64_t begin, std::int64_t end) {
    ForwardRows(x + begin * channels, weight, y + begin * channels, end - begin, channels);
  });
}

void Backward(const float* grad, const float* x, const float* weight, float* grad_x,
              float* grad_weight, std::int64_t rows, std::int64_t channels) {
  // One partial sum a thread, added in thread order: the result is the same every time.
  const std::int64_t threads = at::get_num_threads();
  std::vector<float> partial(threads * channels, 0.0F);
  at::parallel_for(0, rows, GrainRows(channels), [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t first = begin * channels;
    BackwardRows(grad + first, x + first, weight, grad_x + first,
                 partial.data() + at::get_thread_num() * channels, end - begin, channels);
  });
  for (std::int64_t thread = 0; thread < threads; ++thread) {
    for (std::int64_t c = 0; c < channels; ++c) grad_weight[c] += partial[thread * channels + c];
  }
}

struct PReluFunction : torch::autograd::Function<PReluFunction> {
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& x_in,
                               const torch::Tensor& weight) {
    const torch::Tensor x = ChannelsLast(x_in);
    torch::Tensor y = torch::empty_like(x);
    Forward(x.const_data_ptr<float>(), weight.const_data_ptr<float>(), y.mutable_data_ptr<float>(),
            x.numel() / x.size(1), x.size(1));
    context->save_for_backward({x, weight});
    return y;
  }

  static torch::autograd::tensor_list backward(torch::autograd::AutogradContext* context,
                                               torch::autograd::tensor_list gradients) {
    const torch::autograd::tensor_list saved = context->get_saved_variables();
    const torch::Tensor& x = saved[0];
    const torch::Tensor grad = ChannelsLast(gradients[0]);
    torch::Tensor grad_x = torch::empty_like(x);
    torch::Tensor grad_weight = torch::zeros_like(saved[1]);
    Backward(grad.const_data_ptr<float>(), x.const_data_ptr<float>(),
             saved[1].const_data_ptr<float>(), grad_x.mutable_data_ptr<float>(),
             grad_weight.mutable_data_ptr<float>(), x.numel() / x.size(1), x.size(1));
    return {grad_x, grad_weight};
  }
};

}  // namespace

torch::Tensor PRelu(const torch::Tensor& x, const torch::Tensor& weight) {
  if (x.dim() < 2 || x.size(1) != weight.numel() || x.scalar_type() != torch::kFloat32) {
    throw Error(ErrorCode::kInvalidArgument,
                "PRelu: float32 [n, c, ...] with one weight a channel is needed");
  }
  return PReluFunction::apply(x, weight);
}

PReluLayer::PReluLayer(std::int64_t channels)
    : weight_(register_parameter("weight", torch::full({channels}, 0.25))) {}

}  // namespace fr
