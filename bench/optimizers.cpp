// One optimizer step over a network's parameters, next to LibTorch's own optimizers over the same
// tensors (which C++ offers without Python's `foreach` and `fused` variants).
//
//   bench_optimizers [--network NAME] [--threads T] [--steps K]
//
// Both take the same steps in turns; the median counts. A step of ours includes setting the
// gradients to zero, LibTorch's has zero_grad() of its own, as a training loop does. LARS is not in
// LibTorch: its row is compared with LibTorch's SGD. The last column is what the pass moves, once,
// through memory per second.

#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <torch/torch.h>

#include "bench/measure.h"
#include "common/networks/network.h"
#include "worker/backbones/run/network_state.h"
#include "worker/optim/optimizer.h"
#include "worker/optim/weight_average.h"

namespace fr {
namespace {

constexpr double kLr = 1e-4;

struct Setting {
  std::string network = "r50";
  int threads = 2;
  int steps = 15;
};

// LibTorch's optimizers over tensors shaped like the network's parameters.
struct Reference {
  std::vector<at::Tensor> parameters;
  std::vector<at::Tensor> gradients;

  explicit Reference(const FlatParameters& like) {
    for (const FlatParameters::Entry& entry : like.entries()) {
      parameters.push_back(FlatParameters::View(like.values(), entry).detach().clone());
      parameters.back().requires_grad_();
      gradients.push_back(FlatParameters::View(like.gradients(), entry).clone());
      parameters.back().mutable_grad() = gradients.back();
    }
  }

  std::unique_ptr<torch::optim::Optimizer> Make(const OptimizerSpec& spec) const {
    if (spec.type() == OptimizerType::adamw) {
      return std::make_unique<torch::optim::AdamW>(
          parameters, torch::optim::AdamWOptions(kLr).weight_decay(spec.weight_decay()));
    }
    return std::make_unique<torch::optim::SGD>(parameters, torch::optim::SGDOptions(kLr)
                                                               .momentum(spec.momentum())
                                                               .weight_decay(spec.weight_decay())
                                                               .nesterov(spec.nesterov()));
  }
};

struct Row {
  std::string name;
  OptimizerSpec spec;
  int streams = 0;  // arrays that are read or written, each counted once for either
};

std::vector<Row> Rows() {
  OptimizerSpec nesterov;
  nesterov.set_nesterov(true);
  OptimizerSpec adamw;
  adamw.set_type(OptimizerType::adamw);
  OptimizerSpec lars;
  lars.set_type(OptimizerType::lars);
  return {{"sgd", {}, 6}, {"sgd, nesterov", nesterov, 6}, {"adamw", adamw, 8}, {"lars", lars, 8}};
}

void Measure(const Row& row, const Setting& setting, NetworkState& state) {
  FlatParameters& parameters = state.trained();
  Reference reference(parameters);
  const auto theirs = reference.Make(row.spec);
  const std::unique_ptr<Optimizer> ours = MakeOptimizer(row.spec, parameters);
  std::vector<double> our_seconds;
  std::vector<double> their_seconds;
  for (int step = 0; step <= setting.steps; ++step) {
    const double their_time = Seconds([&] {
      theirs->step();
      theirs->zero_grad(/*set_to_none=*/false);
    });
    const double our_time = Seconds([&] { ours->Step(parameters, {kLr, 1.0, step}); });
    if (step == 0) continue;  // memory is touched, LibTorch's state is made
    their_seconds.push_back(their_time);
    our_seconds.push_back(our_time);
  }
  const double our_time = Median(our_seconds);
  const double their_time = Median(their_seconds);
  const double gigabytes =
      4.0 * row.streams * static_cast<double>(parameters.values().numel()) / 1e9;
  std::cout << fmt::format("{:<15} {:>8.1f} ms {:>8.1f} ms {:>7.2f}x {:>7.1f} GB/s\n", row.name,
                           1e3 * our_time, 1e3 * their_time, their_time / our_time,
                           gigabytes / our_time)
            << std::flush;
}

// The norm and the average have no counterpart that is one call in LibTorch's C++.
void MeasureRest(const Graph& graph, const Setting& setting, NetworkState& state) {
  WeightAverage average(graph, state, 0.9998);
  std::vector<double> norm_seconds;
  std::vector<double> their_seconds;
  std::vector<double> average_seconds;
  double norm = 0;
  for (int step = 0; step < setting.steps; ++step) {
    norm_seconds.push_back(Seconds([&] { norm += GradientNorm(state.trained().values()); }));
    their_seconds.push_back(
        Seconds([&] { norm += state.trained().values().norm(2, at::kDouble).item<double>(); }));
    average_seconds.push_back(Seconds([&] { average.Update(state, step); }));
  }
  const double time = Median(norm_seconds);
  const double their_time = Median(their_seconds);
  std::cout << fmt::format("{:<15} {:>8.1f} ms {:>8.1f} ms {:>7.2f}x\n", "gradient norm",
                           1e3 * time, 1e3 * their_time, their_time / time);
  std::cout << fmt::format("{:<15} {:>8.1f} ms\n", "moving average", 1e3 * Median(average_seconds));
}

int Run(int argc, char** argv) {
  Setting setting;
  CLI::App app("Measures optimizer steps next to LibTorch's.");
  app.add_option("--network", setting.network, "whose parameters");
  app.add_option("--threads", setting.threads, "threads")->check(CLI::PositiveNumber);
  app.add_option("--steps", setting.steps, "measured steps; the median counts")
      ->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  at::set_num_threads(setting.threads);
  NetworkOptions options;
  if (!Network_Parse(setting.network, &options.network)) {
    std::cerr << "bench_optimizers: no network " << setting.network << "\n";
    return 2;
  }
  const torch::NoGradGuard no_grad;
  const Graph graph = MakeNetwork(options);
  NetworkState state(graph);
  state.Initialise(graph, 1);
  state.trained().gradients().normal_(0, 1e-3);
  std::cout << fmt::format("{}: {:.1f} million parameters in {} tensors; {} threads\n",
                           setting.network,
                           static_cast<double>(state.trained().values().numel()) / 1e6,
                           state.trained().entries().size(), setting.threads);
  std::cout << fmt::format("{:<15} {:>11} {:>11} {:>8} {:>12}\n", "", "ours", "LibTorch", "faster",
                           "memory");
  for (const Row& row : Rows()) Measure(row, setting, state);
  MeasureRest(graph, setting, state);
  return 0;
}

}  // namespace
}  // namespace fr

int main(int argc, char** argv) { return fr::Run(argc, argv); }
