// What of the gradients' way over the link the backward pass hides: forward and backward pass of a
// backbone on every rank, then the sum of the gradients, in four ways that take turns.
//
//   mpirun -np P bench_overlap [--network NAME] [--batch B] [--bucket-mib M] [--steps K]
//
// none: nothing is sent, the passes alone. at end: one all-reduce after the backward pass. overlap:
// in buckets, while it runs. Each in float32 and in bfloat16.

#include <algorithm>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <torch/torch.h>

#include "bench/measure.h"
#include "worker/backbones/run/backbone.h"
#include "worker/comm/gradient_reducer.h"
#include "worker/comm/mpi_communicator.h"
#include "worker/comm/recorder.h"

namespace fr {
namespace {

struct Way {
  std::string name;
  bool sends = true;
  bool overlap = false;
  Wire wire = Wire::kFloat32;
};

const std::vector<Way> kWays = {{"none", false},
                                {"at end, fp32", true, false, Wire::kFloat32},
                                {"overlap, fp32", true, true, Wire::kFloat32},
                                {"at end, bf16", true, false, Wire::kBFloat16},
                                {"overlap, bf16", true, true, Wire::kBFloat16}};

struct Setting {
  std::string network = "mbf";
  std::int64_t batch = 8;
  double bucket_mib = 25;
  int steps = 5;
  int threads = 1;
};

// Seconds of a step: passes, and the sum if there is one.
double Step(Backbone& backbone, const at::Tensor& images, GradientReducer* reducer) {
  return Seconds([&] {
    backbone.parameters().gradients().zero_();
    const at::Tensor embeddings = backbone.Forward(images);
    GradientsReady ready;
    if (reducer != nullptr) {
      ready = [&](std::int64_t begin, std::int64_t end) { reducer->Ready(begin, end); };
    }
    backbone.Backward(at::ones_like(embeddings), ready);
    if (reducer != nullptr) reducer->Finish();
  });
}

int Run(int argc, char** argv) {
  MpiSession session(&argc, &argv);
  Setting setting;
  CLI::App app("Measures a backbone's step with its gradients sent at the end or on the way.");
  app.add_option("--network", setting.network, "as in job files");
  app.add_option("--batch", setting.batch, "images of a rank")->check(CLI::PositiveNumber);
  app.add_option("--bucket-mib", setting.bucket_mib, "of a message")->check(CLI::PositiveNumber);
  app.add_option("--steps", setting.steps, "measured steps; the median counts")
      ->check(CLI::PositiveNumber);
  app.add_option("--threads", setting.threads, "of a rank")->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  NetworkOptions options;
  if (!Network_Parse(setting.network, &options.network)) {
    std::cerr << "bench_overlap: no network is called " << setting.network << "\n";
    return 2;
  }
  at::set_num_threads(setting.threads);
  MpiCommunicator comm;
  RecordingCommunicator recorder(comm);
  Backbone backbone(options, {}, 1);
  const at::Tensor images = torch::randn({setting.batch, 3, 112, 112});
  const auto bucket_bytes = static_cast<std::int64_t>(setting.bucket_mib * (1 << 20));
  std::vector<std::vector<double>> seconds(kWays.size());
  std::vector<double> link(kWays.size());
  for (int step = 0; step <= setting.steps; ++step) {
    for (std::size_t i = 0; i < kWays.size(); ++i) {
      const Way& way = kWays[i];
      GradientReducer reducer(backbone.parameters().gradients(), recorder,
                              {bucket_bytes, way.overlap, way.wire});
      recorder.Reset();
      comm.Barrier();
      const double elapsed = Step(backbone, images, way.sends ? &reducer : nullptr);
      if (step == 0) continue;  // memory is touched, links are opened
      seconds[i].push_back(elapsed);
      for (const CollectiveTotals& totals : recorder.Totals()) {
        link[i] += totals.seconds / setting.steps;
      }
    }
  }
  at::Tensor slowest = at::zeros({static_cast<std::int64_t>(kWays.size())}, at::kDouble);
  for (std::size_t i = 0; i < kWays.size(); ++i) {
    slowest[static_cast<std::int64_t>(i)] = Median(seconds[i]);
  }
  comm.AllReduceMax(slowest);
  if (comm.rank() != 0) return 0;
  const double alone = slowest[0].item<double>();
  std::cout << fmt::format("{} ranks, {}, {} images each, {:.1f} MB of gradients\n",
                           comm.world_size(), setting.network, setting.batch,
                           static_cast<double>(backbone.parameters().gradients().nbytes()) / 1e6);
  std::cout << fmt::format("{:<16} {:>9} {:>12} {:>12}\n", "", "step", "on the link", "not hidden");
  for (std::size_t i = 0; i < kWays.size(); ++i) {
    const double step = slowest[static_cast<std::int64_t>(i)].item<double>();
    std::cout << fmt::format("{:<16} {:>7.3f} s {:>10.3f} s {:>10.3f} s\n", kWays[i].name, step,
                             link[i], step - alone);
  }
  return 0;
}

}  // namespace
}  // namespace fr

int main(int argc, char** argv) { return fr::Run(argc, argv); }
