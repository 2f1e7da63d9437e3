// Images per second of the backbones, forward (inference) and training (forward and backward), next
// to PyTorch's own operators in the same process with the same threads.
//
//   bench_backbone [--network NAME,..] [--batch B,B,..] [--threads T] [--seconds S]
//                  [--python PYTHON]
//
// References: `eager` is what a PyTorch program does without a thought: float32, [n, c, h, w] as it
// comes. `best` is the fastest that PyTorch's operators give by settings alone: channels-last,
// float32 or bfloat16 autocast, whichever is faster. Both run the graph node by node under
// autograd, in C++: the same kernels as in Python, without the interpreter. With --python (one that
// has onnxruntime), the latency of a single image in onnxruntime is measured, too, on the exported
// model.
//
// All candidates of a line take turns, so that the machine's moods hit all; medians are printed.

#include "worker/backbones/run/backbone.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <torch/torch.h>

#include "bench/eager_network.h"
#include "bench/measure.h"
#include "common/base/command_output.h"
#include "common/base/error.h"
#include "common/base/file.h"
#include "common/cli/run_command.h"
#include "common/networks/network.h"
#include "worker/backbones/run/inference_plan.h"
#include "worker/model/export.h"
#include "worker/model/model.h"

namespace fr {
namespace {

struct Setting {
  std::vector<std::string> networks = {"mbf", "r18", "r50", "r100"};
  std::vector<std::int64_t> batches = {1, 16, 64};
  int threads = 2;
  double seconds = 4;  // for each candidate of a line
  std::string python;  // with onnxruntime; "": without it
};

void Train(EagerNetwork& network, const at::Tensor& images, const at::Tensor& gradients) {
  network.Forward(images, true).backward(gradients);
  for (at::Tensor tensor : network.trained()) tensor.mutable_grad().reset();
}

// Median seconds of each candidate; they take turns.
std::vector<double> Measure(const std::vector<std::function<void()>>& candidates, double seconds) {
  std::vector<std::vector<double>> times(candidates.size());
  for (const auto& candidate : candidates) candidate();
  double spent = 0;
  while (spent < seconds * static_cast<double>(candidates.size()) || times[0].size() < 3) {
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      times[i].push_back(Seconds(candidates[i]));
      spent += times[i].back();
    }
  }
  std::vector<double> medians;
  for (const auto& list : times) medians.push_back(Median(list));
  return medians;
}

void PrintLine(const std::string& network, const char* what, std::int64_t batch,
               const std::vector<double>& seconds) {
  const auto rate = [&](double s) { return static_cast<double>(batch) / s; };
  const double eager = seconds[0];
  const double best = std::min(seconds[1], seconds[2]);
  fmt::print("{:<6} {:<8} {:>5} {:>8.1f} {:>8.1f} {:<5} {:>8.1f} {:>8.1f} {:>9.2f} {:>8.2f}\n",
             network, what, batch, rate(eager), rate(best),
             seconds[1] < seconds[2] ? "fp32" : "bf16", rate(seconds[3]), rate(seconds[4]),
             eager / seconds[4], best / seconds[4]);
  std::fflush(stdout);
}

// Eager, channels-last float32, channels-last autocast; ours in float32 and bfloat16.
void MeasureNetwork(const std::string& name, std::int64_t batch, const Setting& setting) {
  NetworkOptions options;
  if (!Network_Parse(name, &options.network)) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("--network {}: not known", name));
  }
  Backbone fp32(options, {}, 1);
  TrainingOptions half;
  half.precision = at::kBFloat16;
  Backbone bf16(options, half, 1);
  const at::Tensor images = torch::randn({batch, 3, 112, 112});
  const at::Tensor gradients = torch::randn({batch, options.embedding_size}) / 100;
  const Graph& graph = fp32.graph();
  EagerNetwork eager(graph, fp32.state(), EagerNetwork::Kind::kEager);
  EagerNetwork last(graph, fp32.state(), EagerNetwork::Kind::kChannelsLast);
  EagerNetwork autocast(graph, fp32.state(), EagerNetwork::Kind::kAutocast);
  InferencePlan fp32_plan(graph, fp32.state(), {at::kFloat, batch});
  InferencePlan bf16_plan(graph, fp32.state(), {at::kBFloat16, batch});
  const auto forward = [&](EagerNetwork& reference) {
    return [&reference, &images] {
      const torch::NoGradGuard no_grad;
      reference.Forward(images, false);
    };
  };
  const auto train = [&](EagerNetwork& reference) {
    return [&reference, &images, &gradients] { Train(reference, images, gradients); };
  };
  const auto own = [&](Backbone& backbone) {
    return [&backbone, &images, &gradients] {
      backbone.Forward(images);
      backbone.Backward(gradients);
      backbone.parameters().gradients().zero_();
    };
  };
  PrintLine(name, "forward", batch,
            Measure({forward(eager), forward(last), forward(autocast),
                     [&] { fp32_plan.Run(images); }, [&] { bf16_plan.Run(images); }},
                    setting.seconds));
  if (batch == 1) return;  // one image has no batch statistics
  PrintLine(
      name, "training", batch,
      Measure({train(eager), train(last), train(autocast), own(fp32), own(bf16)}, setting.seconds));
}

// Median milliseconds of one image in onnxruntime, on the exported model.
constexpr const char* kOnnxruntimeProgram = R"(
import sys, time, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(sys.argv[2])
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
feed = {session.get_inputs()[0].name: numpy.random.randn(1, 3, 112, 112).astype("float32")}
session.run(None, feed)
times, end = [], time.perf_counter() + float(sys.argv[3])
while time.perf_counter() < end or len(times) < 5:
    start = time.perf_counter()
    session.run(None, feed)
    times.append(time.perf_counter() - start)
print(1e3 * sorted(times)[len(times) // 2])
)";

double OnnxruntimeMilliseconds(const Model& model, const Setting& setting) {
  const std::filesystem::path directory =
      std::filesystem::temp_directory_path() / fmt::format("bench_backbone.{}", getpid());
  std::filesystem::create_directories(directory);
  ExportModel(model, directory / "model.onnx", ExportFormat::kOnnx, /*fold=*/true);
  WriteFileAtomically(directory / "latency.py", kOnnxruntimeProgram);
  const std::string command =
      fmt::format("'{}' '{}' '{}' {} {}", setting.python, (directory / "latency.py").string(),
                  (directory / "model.onnx").string(), setting.threads, setting.seconds);
  const auto [ended_well, text] = OutputOf(command);
  std::filesystem::remove_all(directory);
  std::istringstream answer(text);
  double milliseconds = 0;
  if (!ended_well || !(answer >> milliseconds)) {
    throw Error(ErrorCode::kFailedPrecondition,
                setting.python + ": its onnxruntime did not run the model: see its message above");
  }
  return milliseconds;
}

// A single image: ours in both precisions, and onnxruntime, one after the other.
void MeasureLatency(const std::string& name, const Setting& setting) {
  ModelInfo info;
  Network network = Network::r50;
  Network_Parse(name, &network);
  info.spec.set_network(network);
  Model model(info);
  model.state().Initialise(model.graph(), 1);
  const at::Tensor image = torch::randn({1, 3, 112, 112});
  InferencePlan fp32(model.graph(), model.state(), {at::kFloat, 1});
  InferencePlan bf16(model.graph(), model.state(), {at::kBFloat16, 1});
  const std::vector<double> seconds =
      Measure({[&] { fp32.Run(image); }, [&] { bf16.Run(image); }}, setting.seconds);
  const double onnxruntime = OnnxruntimeMilliseconds(model, setting);
  fmt::print(
      "{:<6} latency of one image: onnxruntime {:.2f} ms, fp32 {:.2f} ms ({:.2f}x), bf16 "
      "{:.2f} ms ({:.2f}x)\n",
      name, onnxruntime, 1e3 * seconds[0], onnxruntime / (1e3 * seconds[0]), 1e3 * seconds[1],
      onnxruntime / (1e3 * seconds[1]));
  std::fflush(stdout);
}

int Run(const Setting& setting) {
  at::set_num_threads(setting.threads);
  fmt::print("images/s, {} threads; ratios are ours in bf16 over the reference\n", setting.threads);
  fmt::print("{:<6} {:<8} {:>5} {:>8} {:>14} {:>8} {:>8} {:>9} {:>8}\n", "", "", "batch", "eager",
             "best", "fp32", "bf16", "x eager", "x best");
  for (const std::string& network : setting.networks) {
    for (const std::int64_t batch : setting.batches) MeasureNetwork(network, batch, setting);
    if (!setting.python.empty()) MeasureLatency(network, setting);
  }
  return 0;
}

}  // namespace
}  // namespace fr

int main(int argc, char** argv) {
  fr::Setting setting;
  CLI::App app("Measures the backbones.", "bench_backbone");
  app.add_option("--network", setting.networks)->delimiter(',');
  app.add_option("--batch", setting.batches)->delimiter(',')->check(CLI::PositiveNumber);
  app.add_option("--threads", setting.threads)->check(CLI::PositiveNumber);
  app.add_option("--seconds", setting.seconds, "for each candidate of a line");
  app.add_option("--python", setting.python, "one that has onnxruntime: measures its latency, too");
  return fr::RunCommand(app, argc, argv, [&] { return fr::Run(setting); });
}
