#include "worker/backbones/run/affine.h"

#include "worker/backbones/run/rows.h"

namespace fr {
namespace {

// A vector of `value`, where there is none.
at::Tensor OrConstant(const at::Tensor& vector, std::int64_t channels, double value) {
  return vector.defined() ? vector : at::full({channels}, value);
}

const void* DataOf(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr() : nullptr;
}

}  // namespace

at::Tensor ApplyAffine(const Affine& affine, const at::Tensor& x_in, const at::Tensor& residual_in,
                       bool in_place) {
  const at::Tensor x = AsRows(x_in);
  const at::Tensor residual = residual_in.defined() ? AsRows(residual_in) : residual_in;
  const std::int64_t channels = x.size(1);
  at::Tensor y = in_place ? x : at::empty_like(x);
  const at::Tensor scale = OrConstant(affine.scale, channels, 1);
  const at::Tensor offset = OrConstant(affine.offset, channels, 0);
  NormForward work;
  work.bf16 = x.scalar_type() == torch::kBFloat16;
  work.activation = affine.activation;
  work.channels = channels;
  work.x = x.const_data_ptr();
  work.residual = DataOf(residual);
  work.y = y.mutable_data_ptr();
  work.scale = scale.const_data_ptr<float>();
  work.offset = offset.const_data_ptr<float>();
  work.slope = static_cast<const float*>(DataOf(affine.slope));
  const BackboneKernels& kernels = SelectBackboneKernels();
  at::parallel_for(
      0, x.numel() / channels, GrainRows(channels),
      [&](std::int64_t begin, std::int64_t end) { kernels.norm_forward(work, begin, end, {}); });
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
  const BackboneKernels& kernels = SelectBackboneKernels();
  at::parallel_for(
      0, x.numel() / channels, GrainRows(channels),
      [&](std::int64_t begin, std::int64_t end) { kernels.sum_norm(work, begin, end); });
  return z;
}

}  // namespace fr
