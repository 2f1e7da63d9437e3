#include "worker/backbones/run/affine.h"

#include "worker/backbones/run/rows.h"
#include "worker/gpu/gpu.h"
#include "worker/gpu/gpu_kernels.h"

namespace fr {
namespace {

const void* DataOf(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr() : nullptr;
}

}  // namespace

std::optional<Activation> ActivationOf(Op op) {
  switch (op) {
    case Op::kPRelu:
      return Activation::kPrelu;
    case Op::kRelu:
      return Activation::kRelu;
    case Op::kRelu6:
      return Activation::kRelu6;
    default:
      return std::nullopt;
  }
}

at::Tensor ApplyAffine(const Affine& affine, const at::Tensor& x_in, const at::Tensor& residual_in,
                       bool in_place) {
  const at::Tensor x = AsRows(x_in);
  const at::Tensor residual = residual_in.defined() ? AsRows(residual_in) : residual_in;
  const std::int64_t channels = x.size(1);
  at::Tensor y = in_place ? x : at::empty_like(x);
  NormForward work;
  work.bf16 = x.scalar_type() == torch::kBFloat16;
  work.activation = affine.activation;
  work.channels = channels;
  work.x = x.const_data_ptr();
  work.residual = DataOf(residual);
  work.y = y.mutable_data_ptr();
  work.scale = affine.scale.const_data_ptr<float>();
  work.offset = affine.offset.const_data_ptr<float>();
  work.slope = static_cast<const float*>(DataOf(affine.slope));
  const std::int64_t rows = x.numel() / channels;
  if (const Gpu* gpu = GpuOf(x)) {
    gpu->kernels().norm_forward(work, rows, gpu->stream());
    return y;
  }
  const BackboneKernels& kernels = SelectBackboneKernels();
  at::parallel_for(0, rows, GrainRows(channels), [&](std::int64_t begin, std::int64_t end) {
    kernels.norm_forward(work, begin, end, {});
  });
  return y;
}

at::Tensor SumThenAffine(const Affine& affine, at::Tensor& x, const at::Tensor& residual_in) {
  const at::Tensor residual = AsRows(residual_in);
  const std::int64_t channels = x.size(1);
  at::Tensor z = at::empty_like(x);
  SumNorm work;
  work.bf16 = x.scalar_type() == torch::kBFloat16;
  work.channels = channels;
  work.x = x.const_data_ptr();
  work.residual = residual.const_data_ptr();
  work.y = x.mutable_data_ptr();
  work.z = z.mutable_data_ptr();
  work.scale = affine.scale.const_data_ptr<float>();
  work.offset = affine.offset.const_data_ptr<float>();
  const std::int64_t rows = x.numel() / channels;
  if (const Gpu* gpu = GpuOf(x)) {
    gpu->kernels().sum_norm(work, rows, gpu->stream());
    return z;
  }
  const BackboneKernels& kernels = SelectBackboneKernels();
  at::parallel_for(0, rows, GrainRows(channels), [&](std::int64_t begin, std::int64_t end) {
    kernels.sum_norm(work, begin, end);
  });
  return z;
}

}  // namespace fr
