#include "worker/backbones/run/depthwise.h"

#include "worker/backbones/run/rows.h"
#include "worker/gpu/gpu.h"

namespace fr {
namespace {

// Of pairs {weight from the first, weight from the second channel}, the second channel's exchanged:
// the own input's first. Its own inverse. [c, 2, taps].
at::Tensor ExchangeOdd(const at::Tensor& flat) {
  const at::Tensor pairs = flat.reshape({-1, 2, 2, flat.size(2)});
  return at::stack({pairs.select(1, 0), pairs.select(1, 1).flip({1})}, 1).reshape(flat.sizes());
}

// On a GPU cuDNN's kernels do it.
struct StockConvolution {
  explicit StockConvolution(const DepthwiseShape& shape)
      : stride(2, shape.stride),
        padding(2, shape.padding),
        groups(shape.channels / (shape.paired ? 2 : 1)) {}

  at::Tensor Forward(const at::Tensor& x, const at::Tensor& weight) const {
    return at::convolution(x, weight, {}, stride, padding, {1, 1}, false, {0, 0}, groups);
  }
  std::tuple<at::Tensor, at::Tensor, at::Tensor> Backward(const at::Tensor& x, const at::Tensor& dy,
                                                          const at::Tensor& weight,
                                                          std::array<bool, 3> wanted) const {
    return at::convolution_backward(dy, x, weight, {}, stride, padding, {1, 1}, false, {0, 0},
                                    groups, wanted);
  }

  std::vector<std::int64_t> stride;
  std::vector<std::int64_t> padding;
  std::int64_t groups;
};

at::Tensor WeightLike(const DepthwiseShape& shape, const at::Tensor& taps, const at::Tensor& x) {
  return FromTaps(shape, taps).to(x.scalar_type()).contiguous(torch::MemoryFormat::ChannelsLast);
}

void SetType(DepthwiseShape& shape, const at::Tensor& x) {
  shape.bf16 = x.scalar_type() == torch::kBFloat16;
}

}  // namespace

bool IsDepthwise(const Graph& graph, int conv) {
  const Node& node = graph.node(conv);
  const std::int64_t channels = graph.node(node.inputs[0]).shape[0];
  const Window& w = node.window;
  return !node.has_bias() && node.shape[0] == channels && w.kernel[0] == w.kernel[1] &&
         w.padding[0] == w.padding[1] && w.stride[0] == w.stride[1] &&
         (node.groups == channels || 2 * node.groups == channels);
}

DepthwiseShape DepthwiseShapeOf(const Graph& graph, int conv) {
  const Node& node = graph.node(conv);
  const std::vector<std::int64_t>& in = graph.node(node.inputs[0]).shape;
  DepthwiseShape shape;
  shape.paired = node.groups != node.shape[0];
  shape.channels = in[0];
  shape.height = in[1];
  shape.width = in[2];
  shape.kernel = node.window.kernel[0];
  shape.stride = node.window.stride[0];
  shape.padding = node.window.padding[0];
  return shape;
}

at::Tensor ToTaps(const DepthwiseShape& shape, const at::Tensor& weight) {
  const at::Tensor flat = weight.reshape({shape.channels, -1, shape.kernel * shape.kernel});
  return (shape.paired ? ExchangeOdd(flat) : flat).permute({2, 1, 0}).contiguous();
}

at::Tensor FromTaps(const DepthwiseShape& shape, const at::Tensor& taps) {
  const std::int64_t kinds = shape.paired ? 2 : 1;
  const at::Tensor flat = taps.reshape({-1, kinds, shape.channels}).permute({2, 1, 0}).contiguous();
  return (shape.paired ? ExchangeOdd(flat) : flat)
      .reshape({shape.channels, kinds, shape.kernel, shape.kernel});
}

at::Tensor DepthwiseForward(DepthwiseShape shape, const at::Tensor& x, const at::Tensor& taps) {
  if (GpuOf(x) != nullptr) {
    return StockConvolution(shape).Forward(x, WeightLike(shape, taps, x));
  }
  SetType(shape, x);
  at::Tensor y = at::empty({x.size(0), shape.channels, shape.OutHeight(), shape.OutWidth()},
                           x.options(), torch::MemoryFormat::ChannelsLast);
  const BackboneKernels& kernels = SelectBackboneKernels();
  at::parallel_for(0, x.size(0) * shape.OutHeight(), GrainRows(shape.OutWidth() * shape.channels),
                   [&](std::int64_t begin, std::int64_t end) {
                     kernels.depthwise_forward(shape, x.const_data_ptr(),
                                               taps.const_data_ptr<float>(), y.mutable_data_ptr(),
                                               begin, end);
                   });
  return y;
}

at::Tensor DepthwiseBackwardInput(DepthwiseShape shape, const at::Tensor& x, const at::Tensor& dy,
                                  const at::Tensor& taps) {
  if (GpuOf(x) != nullptr) {
    return std::get<0>(
        StockConvolution(shape).Backward(x, dy, WeightLike(shape, taps, x), {true, false, false}));
  }
  SetType(shape, x);
  at::Tensor dx = at::empty_like(x);
  const BackboneKernels& kernels = SelectBackboneKernels();
  at::parallel_for(0, x.size(0) * shape.height, GrainRows(shape.width * shape.channels),
                   [&](std::int64_t begin, std::int64_t end) {
                     kernels.depthwise_backward_input(shape, dy.const_data_ptr(),
                                                      taps.const_data_ptr<float>(),
                                                      dx.mutable_data_ptr(), begin, end);
                   });
  return dx;
}

at::Tensor DepthwiseBackwardWeight(DepthwiseShape shape, const at::Tensor& x,
                                   const at::Tensor& dy) {
  if (GpuOf(x) != nullptr) {
    const std::int64_t kinds = shape.paired ? 2 : 1;
    const at::Tensor weight =
        at::empty({shape.channels, kinds, shape.kernel, shape.kernel}, x.options())
            .contiguous(torch::MemoryFormat::ChannelsLast);
    const at::Tensor dw =
        std::get<1>(StockConvolution(shape).Backward(x, dy, weight, {false, true, false}));
    return ToTaps(shape, dw.to(torch::kFloat32));
  }
  SetType(shape, x);
  const std::int64_t threads = at::get_num_threads();
  at::Tensor partial =
      at::zeros({threads, shape.kernel * shape.kernel, shape.paired ? 2 : 1, shape.channels});
  const BackboneKernels& kernels = SelectBackboneKernels();
  at::parallel_for(0, x.size(0) * shape.OutHeight(), GrainRows(shape.OutWidth() * shape.channels),
                   [&](std::int64_t begin, std::int64_t end) {
                     float* own = partial.mutable_data_ptr<float>() +
                                  at::get_thread_num() * partial.stride(0);
                     kernels.depthwise_backward_weight(shape, x.const_data_ptr(),
                                                       dy.const_data_ptr(), own, begin, end);
                   });
  return partial.sum(0);
}

}  // namespace fr
