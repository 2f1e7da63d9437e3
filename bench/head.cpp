// Time and memory of one step of the margin head, next to what today's trainers do: LibTorch
// autograd over materialised logits, then torch SGD. ArcFace, D = 512 unless asked.
//
//   bench_head [--device cpu|gpu] [--identities N,N,..] [--batch B,B,..] [--dim D] [--steps K]
//              [--threads T] [--only MODE,..] [--json FILE]
//
// On a GPU: bench/head_gpu.h. On the processor every measurement is a process of its own, one after
// the other, so that each has its own peak of memory. Modes: reference; exact; bf16; tolerance
// (mass_tolerance 1e-3, at the start of training and with trained embeddings); sampled (sample_rate
// 0.1).

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <torch/torch.h>

#include "bench/head_gpu.h"
#include "bench/head_reference.h"
#include "bench/measure.h"
#include "common/base/error.h"
#include "common/cli/run_command.h"
#include "worker/comm/mpi_communicator.h"
#include "worker/heads/margin_head.h"

namespace fr {
namespace {

// So small that the rows stay what they are, whatever the number of steps.
constexpr double kLr = 1e-6;

struct Setting {
  std::string mode;
  std::int64_t identities = 0;
  std::int64_t batch = 0;
  std::int64_t dim = 512;
  int steps = 3;
  int threads = 2;
};

struct Measured {
  double seconds = 0;    // median of a step
  double gigabytes = 0;  // peak of the process
  double base = 0;       // of these, before head and batch were made
  double skipped = 0;
  double loss = 0;
};

double MedianStep(int steps, const std::function<void()>& step) {
  step();  // memory is touched, pages are mapped
  std::vector<double> seconds;
  for (int i = 0; i < steps; ++i) seconds.push_back(Seconds(step));
  return Median(std::move(seconds));
}

// Embeddings of a network before training; or, trained, at an angle with cosine 0.8 to their
// centres.
at::Tensor Embeddings(const Setting& setting, const at::Tensor& weight, const at::Tensor& labels,
                      bool trained) {
  const at::Tensor noise =
      torch::nn::functional::normalize(torch::randn({setting.batch, setting.dim}));
  if (!trained) return noise * 20;
  const at::Tensor centers = torch::nn::functional::normalize(weight.index({labels}));
  return (centers * 0.8 + noise * 0.6) * 20;
}

Measured MeasureReference(const Setting& setting) {
  Measured measured;
  measured.base = PeakGibibytes();
  torch::manual_seed(1);
  const at::Tensor labels = torch::randint(setting.identities, {setting.batch}, torch::kInt64);
  HeadReference reference({.identities = setting.identities, .dim = setting.dim, .lr = kLr});
  const at::Tensor x = Embeddings(setting, reference.weight(), labels, false);
  measured.seconds = MedianStep(setting.steps, [&] { measured.loss = reference.Step(x, labels); });
  measured.gigabytes = PeakGibibytes();
  return measured;
}

Measured MeasureHead(const Setting& setting) {
  Measured measured;
  measured.base = PeakGibibytes();
  torch::manual_seed(1);
  const bool trained = setting.mode == "tolerance-trained";
  const at::Tensor labels = torch::randint(setting.identities, {setting.batch}, torch::kInt64);
  MarginHeadOptions options;
  options.shard.embedding_size = setting.dim;
  options.shard.bf16_products = setting.mode == "bf16";
  if (setting.mode.starts_with("tolerance")) options.mass_tolerance = 1e-3;
  if (setting.mode == "sampled") options.sample_rate = 0.1;
  MpiSession session(nullptr, nullptr);
  MpiCommunicator self(MpiCommunicator::Self{});
  MarginHead head(options, {0, setting.identities}, self);
  const at::Tensor x = Embeddings(setting, head.RowTensors()[0].second, labels, trained);
  measured.seconds = MedianStep(setting.steps, [&] {
    const HeadStepResult result = head.Step(x, labels, {setting.batch}, kLr);
    measured.loss = result.loss;
    measured.skipped = result.skipped_share;
  });
  measured.gigabytes = PeakGibibytes();
  return measured;
}

// The fastest of several products: what this machine's best library gets out of it.
double PeakGigaflops(at::ScalarType type, int threads) {
  at::set_num_threads(threads);
  constexpr std::int64_t kN = 3072;
  const at::Tensor a = torch::randn({kN, kN}).to(type);
  const at::Tensor b = torch::randn({kN, kN}).to(type);
  at::Tensor c = at::mm(a, b);
  double best = 1e9;
  for (int i = 0; i < 4; ++i) best = std::min(best, Seconds([&] { at::mm_out(c, a, b); }));
  return 2.0 * kN * kN * kN / best / 1e9;
}

// In a child of its own, whose answer comes through a pipe.
std::vector<double> InChild(const std::function<std::vector<double>()>& work) {
  int ends[2];
  if (pipe(ends) != 0) return {};
  const pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    std::string text;
    for (const double value : work()) text += fmt::format("{} ", value);
    const auto written = write(ends[1], text.data(), text.size());
    _exit(written == static_cast<ssize_t>(text.size()) ? 0 : 1);
  }
  close(ends[1]);
  std::string text;
  char buffer[256];
  for (ssize_t n = 0; (n = read(ends[0], buffer, sizeof buffer)) > 0;) text.append(buffer, n);
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  std::istringstream stream(text);
  std::vector<double> values;
  for (double value = 0; stream >> value;) values.push_back(value);
  return values;
}

Measured Measure(const Setting& setting) {
  const std::vector<double> values = InChild([&] {
    at::set_num_threads(setting.threads);
    const Measured m =
        setting.mode == "reference" ? MeasureReference(setting) : MeasureHead(setting);
    return std::vector<double>{m.seconds, m.gigabytes, m.base, m.skipped, m.loss};
  });
  if (values.size() != 5) return {};
  return {values[0], values[1], values[2], values[3], values[4]};
}

struct Peaks {
  double float32 = 0;
  double bfloat16 = 0;
};

void PrintRow(const Setting& setting, const Measured& m, const Measured& reference,
              const Peaks& peaks) {
  if (m.seconds == 0) {
    std::cout << fmt::format("{:>10} {:>5}  {:<18} did not end: not enough memory?\n",
                             setting.identities, setting.batch, setting.mode);
    return;
  }
  std::string ratio = "-";
  std::string memory = "-";
  if (reference.seconds > 0) {
    ratio = fmt::format("{:.2f}x", reference.seconds / m.seconds);
    memory = fmt::format("{:.2f}", m.gigabytes / reference.gigabytes);
  }
  std::string share = "-";
  if (setting.mode == "exact" || setting.mode == "bf16") {
    // Four products: logits twice, the embeddings' and the rows' gradients.
    const double flops = 4 * 2.0 * static_cast<double>(setting.identities) *
                         static_cast<double>(setting.batch) * static_cast<double>(setting.dim);
    share = fmt::format("{:.0f} %", 100 * flops / m.seconds / 1e9 /
                                        (setting.mode == "bf16" ? peaks.bfloat16 : peaks.float32));
  }
  std::cout
      << fmt::format(
             "{:>10} {:>5}  {:<18} {:>9.4f} s {:>8} {:>8.2f} GB {:>7} {:>8} {:>8.1f} %  {:.3f}\n",
             setting.identities, setting.batch, setting.mode, m.seconds, ratio, m.gigabytes, memory,
             share, 100 * m.skipped, m.loss)
      << std::flush;
}

int MeasureOnProcessor(Setting setting, const std::vector<std::int64_t>& identities,
                       const std::vector<std::int64_t>& batches,
                       const std::vector<std::string>& modes) {
  const std::vector<double> peak = InChild([&] {
    return std::vector<double>{PeakGigaflops(at::kFloat, setting.threads),
                               PeakGigaflops(at::kBFloat16, setting.threads)};
  });
  if (peak.size() != 2) return 1;
  const Peaks peaks{peak[0], peak[1]};
  std::cout << fmt::format(
      "{} threads, kernels {}, matrix products at most {:.0f} GFLOP/s in float32, "
      "{:.0f} in bfloat16; D = {}\n",
      setting.threads, SelectHeadKernels().name, peaks.float32, peaks.bfloat16, setting.dim);
  std::cout << fmt::format("{:>10} {:>5}  {:<18} {:>11} {:>8} {:>11} {:>7} {:>8} {:>10}  {}\n",
                           "identities", "batch", "mode", "step", "faster", "peak", "memory",
                           "of peak", "skipped", "loss");
  for (std::size_t i = 0; i < identities.size(); ++i) {
    setting.identities = identities[i];
    setting.batch = batches[i];
    Measured reference;
    for (const std::string& mode : modes) {
      setting.mode = mode;
      const Measured measured = Measure(setting);
      if (mode == "reference") reference = measured;
      PrintRow(setting, measured, reference, peaks);
    }
  }
  return 0;
}

// What the command line says; what it does not say, each device has its own defaults for.
struct Arguments {
  std::string device = "cpu";
  std::vector<std::int64_t> identities;
  std::vector<std::int64_t> batches;
  std::vector<std::string> modes;
  Setting setting;
  GpuHeadSetting gpu;
};

int Run(Arguments arguments) {
  const bool on_gpu = arguments.device != "cpu";
  GpuHeadSetting& gpu = arguments.gpu;
  if (arguments.identities.empty() && arguments.batches.empty()) {
    arguments.identities =
        on_gpu ? gpu.identities : std::vector<std::int64_t>{100000, 500000, 1000000, 1000000};
    arguments.batches = on_gpu ? gpu.batches : std::vector<std::int64_t>{64, 64, 64, 256};
  }
  if (arguments.identities.size() != arguments.batches.size()) {
    throw Error(ErrorCode::kInvalidArgument, "--identities and --batch need as many values");
  }
  if (arguments.modes.empty()) {
    arguments.modes =
        on_gpu ? gpu.modes
               : std::vector<std::string>{"reference",         "exact",  "bf16", "tolerance",
                                          "tolerance-trained", "sampled"};
  }
  if (!on_gpu) {
    return MeasureOnProcessor(arguments.setting, arguments.identities, arguments.batches,
                              arguments.modes);
  }
  at::set_num_threads(arguments.setting.threads);
  gpu.device = arguments.device;
  gpu.identities = arguments.identities;
  gpu.batches = arguments.batches;
  gpu.modes = arguments.modes;
  gpu.dim = arguments.setting.dim;
  return MeasureHeadsOnGpu(gpu);
}

}  // namespace
}  // namespace fr

int main(int argc, char** argv) {
  fr::Arguments arguments;
  CLI::App app("Measures the margin head next to LibTorch autograd.", "bench_head");
  app.add_option("--device", arguments.device, "cpu; or gpu, the first that this process may use")
      ->check(CLI::IsMember({"cpu", "gpu", "emulated_gpu"}));
  app.add_option("--identities", arguments.identities, "one a row of the table")->delimiter(',');
  app.add_option("--batch", arguments.batches, "one a row of the table")->delimiter(',');
  app.add_option("--dim", arguments.setting.dim, "embedding size");
  const CLI::Option* steps =
      app.add_option("--steps", arguments.setting.steps, "measured steps; the median counts")
          ->check(CLI::PositiveNumber);
  app.add_option("--threads", arguments.setting.threads, "threads of the processor")
      ->check(CLI::PositiveNumber);
  app.add_option("--only", arguments.modes, "modes")->delimiter(',');
  app.add_option("--json", arguments.gpu.json, "of a GPU: the figures of the table, and more");
  app.add_option("--peak-size", arguments.gpu.peak_size,
                 "of a GPU: of the square products that are called the peak")
      ->check(CLI::PositiveNumber);
  return fr::RunCommand(app, argc, argv, [&] {
    if (steps->count() > 0) arguments.gpu.steps = arguments.setting.steps;
    return fr::Run(arguments);
  });
}
