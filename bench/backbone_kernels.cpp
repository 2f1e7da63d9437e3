// Speed of the backbones' memory-bound loops, one thread, next to memcpy and to a plain loop.
//
//   bench_backbone_kernels [--batch N] [--only TEXT] [--ms MILLISECONDS]
//
// GB/s counts what has to be read and written at least, once. The plain loops are what a compiler
// makes of the formula, at -O3 for the processor at hand; they are in float32.

#include "worker/backbones/kernels/backbone_kernels.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "worker/simd.h"

namespace fr {
namespace {

struct Options {
  std::int64_t batch = 16;
  std::string only;
  double milliseconds = 200;
};

// Activations of either type, with small numbers in them.
class Buffer {
 public:
  Buffer(bool bf16, std::int64_t size) : bytes_(bf16 ? 2 * size : 4 * size) {
    for (std::int64_t i = 0; i < size; ++i) {
      const float value = static_cast<float>(i * 7919 % 2003 - 1001) / 512;
      std::uint32_t bits = 0;
      std::memcpy(&bits, &value, sizeof bits);
      if (bf16) {
        const auto high = static_cast<std::uint16_t>(bits >> 16U);
        std::memcpy(bytes_.data() + 2 * i, &high, 2);
      } else {
        std::memcpy(bytes_.data() + 4 * i, &value, 4);
      }
    }
  }
  void* data() { return bytes_.data(); }
  double size() const { return static_cast<double>(bytes_.size()); }

 private:
  std::vector<std::uint8_t> bytes_;
};

// The least time of one run, in seconds.
double Measure(const Options& options, const std::function<void()>& run) {
  using Clock = std::chrono::steady_clock;
  run();
  double least = 1e9;
  const auto begin = Clock::now();
  do {
    const auto start = Clock::now();
    run();
    least = std::min(least, std::chrono::duration<double>(Clock::now() - start).count());
  } while (std::chrono::duration<double, std::milli>(Clock::now() - begin).count() <
           options.milliseconds);
  return least;
}

class Report {
 public:
  Report(const Options& options, std::string shape) : options_(options), shape_(std::move(shape)) {}

  // `plain`, where it is given, does the same work.
  void Row(const std::string& what, double bytes, double products, const std::function<void()>& run,
           const std::function<void()>& plain = nullptr) const {
    const std::string name = shape_ + " " + what;
    if (name.find(options_.only) == std::string::npos) return;
    const double seconds = Measure(options_, run);
    std::string line =
        fmt::format("{:<58}{:>9.3f} ms{:>8.1f} GB/s", name, seconds * 1e3, bytes / seconds * 1e-9);
    line += products > 0 ? fmt::format("{:>8.1f} GFLOP/s", 2 * products / seconds * 1e-9)
                         : std::string(16, ' ');
    if (plain != nullptr) {
      line += fmt::format("{:>8.1f} x plain", Measure(options_, plain) / seconds);
    }
    fmt::print("{}\n", line);
  }

 private:
  const Options& options_;
  std::string shape_;
};

// ---- plain loops ----

FR_SIMD_CLONES
void PlainForward(const NormForward& w, std::int64_t rows) {
  const float* x = static_cast<const float*>(w.x);
  float* y = static_cast<float*>(w.y);
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t c = 0; c < w.channels; ++c) {
      const float v = x[i * w.channels + c] * w.scale[c] + w.offset[c];
      y[i * w.channels + c] = v > 0 ? v : w.slope[c] * v;
    }
  }
}

FR_SIMD_CLONES
void PlainDepthwise(const DepthwiseShape& s, std::int64_t images, const float* x,
                    const float* weight, float* y) {
  for (std::int64_t row = 0; row < images * s.OutHeight(); ++row) {
    for (std::int64_t ox = 0; ox < s.OutWidth(); ++ox) {
      float* out = y + (row * s.OutWidth() + ox) * s.channels;
      for (std::int64_t c = 0; c < s.channels; ++c) out[c] = 0;
      for (std::int64_t k = 0; k < s.kernel * s.kernel; ++k) {
        const std::int64_t iy = row % s.OutHeight() * s.stride - s.padding + k / s.kernel;
        const std::int64_t ix = ox * s.stride - s.padding + k % s.kernel;
        if (iy < 0 || iy >= s.height || ix < 0 || ix >= s.width) continue;
        const float* in = x + ((row / s.OutHeight() * s.height + iy) * s.width + ix) * s.channels;
        const float* w = weight + k * s.channels;
        for (std::int64_t c = 0; c < s.channels; ++c) out[c] += in[c] * w[c];
      }
    }
  }
}

// ---- what is measured ----

void MeasureRowwise(const Options& options, const BackboneKernels& kernels, bool bf16,
                    std::int64_t side, std::int64_t channels) {
  const std::int64_t rows = options.batch * side * side;
  Buffer x(bf16, rows * channels);
  Buffer dy(bf16, rows * channels);
  Buffer y(bf16, rows * channels);
  Buffer z(bf16, rows * channels);
  const std::vector<float> some(channels, 0.5F);
  std::vector<double> sums[3];
  for (auto& sum : sums) sum.resize(channels);
  const float* v = some.data();
  const MomentSums moments{sums[0].data(), sums[1].data()};
  const Report report(options, fmt::format("{} {}x{}x{}x{}", bf16 ? "bf16" : "float32",
                                           options.batch, side, side, channels));
  const double size = x.size();
  report.Row("memcpy", 2 * size, 0, [&] { std::memcpy(y.data(), x.data(), y.size()); });
  report.Row("moments", size, 0, [&] {
    kernels.moments({bf16, channels, x.data(), v}, 0, rows, moments);
  });
  NormForward forward{.bf16 = bf16,
                      .activation = Activation::kPrelu,
                      .channels = channels,
                      .x = x.data(),
                      .y = y.data(),
                      .scale = v,
                      .offset = v,
                      .slope = v,
                      .shift = v};
  const auto run_forward = [&] { kernels.norm_forward(forward, 0, rows, {}); };
  const auto plain_forward = [&] { PlainForward(forward, rows); };
  bf16 ? report.Row("norm_forward prelu", 2 * size, 0, run_forward)
       : report.Row("norm_forward prelu", 2 * size, 0, run_forward, plain_forward);
  report.Row("norm_forward prelu, moments", 2 * size, 0,
             [&] { kernels.norm_forward(forward, 0, rows, moments); });
  forward.residual = z.data();
  forward.activation = Activation::kNone;
  report.Row("norm_forward residual, moments", 3 * size, 0,
             [&] { kernels.norm_forward(forward, 0, rows, moments); });
  report.Row("sum_norm", 4 * size, 0, [&] {
    kernels.sum_norm({bf16, channels, x.data(), dy.data(), y.data(), z.data(), v, v}, 0, rows);
  });
  NormBackward backward{.bf16 = bf16,
                        .activation = Activation::kPrelu,
                        .channels = channels,
                        .x = x.data(),
                        .dy = dy.data(),
                        .scale = v,
                        .offset = v,
                        .slope = v,
                        .mean = v,
                        .a = v,
                        .b = v,
                        .d = v,
                        .dx = y.data()};
  report.Row("norm_backward_sums prelu", 2 * size, 0, [&] {
    kernels.norm_backward_sums(backward, 0, rows, {sums[0].data(), sums[1].data(), sums[2].data()});
  });
  report.Row("norm_backward_input prelu", 3 * size, 0,
             [&] { kernels.norm_backward_input(backward, 0, rows); });
  backward.activation = Activation::kNone;
  backward.add = z.data();
  report.Row("norm_backward_sums", 2 * size, 0, [&] {
    kernels.norm_backward_sums(backward, 0, rows, {sums[0].data(), sums[1].data(), nullptr});
  });
  report.Row("norm_backward_input add", 4 * size, 0,
             [&] { kernels.norm_backward_input(backward, 0, rows); });
}

void MeasureDepthwise(const Options& options, const BackboneKernels& kernels,
                      const DepthwiseShape& s) {
  const std::int64_t in_rows = options.batch * s.height;
  const std::int64_t out_rows = options.batch * s.OutHeight();
  Buffer x(s.bf16, in_rows * s.width * s.channels);
  Buffer y(s.bf16, out_rows * s.OutWidth() * s.channels);
  Buffer dx(s.bf16, in_rows * s.width * s.channels);
  const std::int64_t weights = s.kernel * s.kernel * s.channels * (s.paired ? 2 : 1);
  const std::vector<float> weight(weights, 0.01F);
  std::vector<float> gradient(weights);
  // Counting those with padding, too.
  const double products = static_cast<double>(out_rows * s.OutWidth() * weights);
  const Report report(options, fmt::format("{} {}x{}x{}x{} {}x{}/{}{}", s.bf16 ? "bf16" : "float32",
                                           options.batch, s.height, s.width, s.channels, s.kernel,
                                           s.kernel, s.stride, s.paired ? " paired" : ""));
  const auto forward = [&] {
    kernels.depthwise_forward(s, x.data(), weight.data(), y.data(), 0, out_rows);
  };
  const auto plain = [&] {
    PlainDepthwise(s, options.batch, static_cast<const float*>(x.data()), weight.data(),
                   static_cast<float*>(y.data()));
  };
  const double size = x.size() + y.size();
  s.bf16 || s.paired ? report.Row("forward", size, products, forward)
                     : report.Row("forward", size, products, forward, plain);
  report.Row("backward_input", size, products, [&] {
    kernels.depthwise_backward_input(s, y.data(), weight.data(), dx.data(), 0, in_rows);
  });
  report.Row("backward_weight", size, products, [&] {
    kernels.depthwise_backward_weight(s, x.data(), y.data(), gradient.data(), 0, out_rows);
  });
}

void Run(const Options& options) {
  const BackboneKernels& kernels = SelectBackboneKernels();
  fmt::print("kernels {}, one thread\n\n", kernels.name);
  for (const bool bf16 : {true, false}) {
    MeasureRowwise(options, kernels, bf16, 112, 64);
    MeasureRowwise(options, kernels, bf16, 28, 256);
    MeasureRowwise(options, kernels, bf16, 7, 512);
    for (const bool paired : {false, true}) {
      MeasureDepthwise(options, kernels, {bf16, paired, 128, 56, 56, 3, 1, 1});
    }
    MeasureDepthwise(options, kernels, {bf16, false, 64, 112, 112, 3, 1, 1});
    MeasureDepthwise(options, kernels, {bf16, false, 64, 112, 112, 3, 2, 1});
    MeasureDepthwise(options, kernels, {bf16, false, 256, 28, 28, 3, 1, 1});
    MeasureDepthwise(options, kernels, {bf16, false, 256, 28, 28, 3, 2, 1});
    MeasureDepthwise(options, kernels, {bf16, false, 512, 14, 14, 3, 1, 1});
    MeasureDepthwise(options, kernels, {bf16, false, 512, 7, 7, 7, 1, 0});
    MeasureDepthwise(options, kernels, {bf16, false, 128, 28, 28, 7, 1, 3});
  }
}

}  // namespace
}  // namespace fr

int main(int argc, char** argv) {
  fr::Options options;
  CLI::App app("Speed of the backbones' memory-bound loops");
  app.add_option("--batch", options.batch, "Images")->capture_default_str();
  app.add_option("--only", options.only, "Rows whose name contains this text");
  app.add_option("--ms", options.milliseconds, "Time for each row")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  fr::Run(options);
  return 0;
}
