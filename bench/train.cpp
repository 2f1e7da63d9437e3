// Time and memory of whole training steps: network, head, gradients over the ranks, update. Beside
// the straightforward loop (bench/train_candidates.h).
//
//   bench_train [--network NAME] [--identities N,N,..] [--ranks R,R,..] [--batch B] [--steps K]
//               [--cores C] [--only MODE,..]
//   bench_train --device gpu [--network NAME] [--identities N,N,..] [--batch B] [--steps K]
//               [--only MODE,..] [--python PYTHON] [--json FILE]
//
// The second is of one GPU: bench/train_gpu.h. The first:
//
// Random images and labels: no data set is needed, and no loader is measured. Every measurement is
// an mpirun of its own, one after the other, so that each has its own peak of memory; a rank has
// cores / ranks threads. Modes: reference-fp32, reference-bf16, fp32, bf16. A step's time is that
// of the slowest rank, the median of K after one that is not counted; GiB are the peaks of all
// ranks together. The lines below a measurement say where the time of rank 0 goes.

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <torch/torch.h>

#include "bench/measure.h"
#include "bench/train_candidates.h"
#include "bench/train_gpu.h"
#include "common/base/command_output.h"
#include "common/base/error.h"
#include "common/cli/run_command.h"
#include "worker/comm/mpi_communicator.h"

namespace fr {
namespace {

struct Setting {
  std::string network = "r50";
  std::vector<std::int64_t> identities = {93'431, 1'000'000};
  std::vector<int> ranks = {1, 2};
  std::int64_t batch = 16;
  int steps = 3;
  int cores = 2;
  std::vector<std::string> modes = {"reference-fp32", "reference-bf16", "fp32", "bf16"};
  std::string measure;  // not empty: this process is a rank of a measurement of that mode
};

// What a measurement says, in this order, on one line that begins with kAnswer.
enum Value : std::uint8_t {
  kSeconds,
  kGigabytes,
  kLoss,
  kForward,
  kHead,
  kBackward,
  kReduce,
  kUpdate,
  kValues
};
using Measured = std::array<double, kValues>;
constexpr const char* kAnswer = "measured";

// One rank of a measurement.
Measured MeasureStep(const Setting& setting, Communicator& comm) {
  at::set_num_threads(std::max(1, setting.cores / comm.world_size()));
  TrainSetting train;
  if (!Network_Parse(setting.network, &train.network.network)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("--network {}: not known", setting.network));
  }
  train.identities = setting.identities[0];
  train.batch = setting.batch;
  train.bf16 = setting.measure.ends_with("bf16");
  torch::manual_seed(comm.rank());
  const at::Tensor images = (torch::rand({setting.batch, 3, 112, 112}) * 2 - 1)
                                .contiguous(at::MemoryFormat::ChannelsLast);  // as NetworkInput
  const at::Tensor labels = torch::randint(train.identities, {setting.batch}, torch::kInt64);
  const auto candidate =
      setting.measure.starts_with("reference") ? MakeReference(train, comm) : MakeOwn(train, comm);
  std::array<std::vector<double>, kValues> values;
  for (int step = 0; step <= setting.steps; ++step) {
    StepTimes times;
    double loss = 0;
    comm.Barrier();
    at::Tensor seconds = at::full(
        {1}, Seconds([&] { loss = candidate->Step(images, labels, &times); }), at::kDouble);
    comm.AllReduceMax(seconds);
    if (step == 0) continue;  // memory is touched, kernels are chosen
    const Measured one{seconds.item<double>(), 0,           loss,
                       times.forward,          times.head,  times.backward,
                       times.reduce,           times.update};
    for (std::size_t i = 0; i < kValues; ++i) values[i].push_back(one[i]);
  }
  Measured medians{};
  for (std::size_t i = 0; i < kValues; ++i) medians[i] = Median(values[i]);
  at::Tensor peak = at::full({1}, PeakGibibytes(), at::kDouble);
  comm.AllReduceSum(peak);
  medians[kGigabytes] = peak.item<double>();
  return medians;
}

int RunRank(const Setting& setting) {
  MpiSession session(nullptr, nullptr);
  MpiCommunicator comm;
  const Measured measured = MeasureStep(setting, comm);
  if (comm.rank() == 0) fmt::print("{} {}\n", kAnswer, fmt::join(measured, " "));
  return 0;
}

// This program again, under mpirun. Nothing if it did not end, as when there is not enough memory.
std::optional<Measured> Measure(const Setting& setting, const std::string& mode,
                                std::int64_t identities, int ranks) {
  const std::string command = fmt::format(
      "mpirun --oversubscribe --bind-to none -np {} '{}' --measure {} --network {} "
      "--identities {} --batch {} --steps {} --cores {}",
      ranks, std::filesystem::read_symlink("/proc/self/exe").string(), mode, setting.network,
      identities, setting.batch, setting.steps, setting.cores);
  const auto [ended_well, text] = OutputOf(command);
  const std::size_t answer = text.find(kAnswer);
  if (!ended_well || answer == std::string::npos) return std::nullopt;
  std::istringstream stream(text.substr(answer + std::string(kAnswer).size()));
  Measured measured{};
  for (double& value : measured) stream >> value;
  return stream ? std::optional(measured) : std::nullopt;
}

void PrintLine(const Setting& setting, const std::string& mode, std::int64_t identities, int ranks,
               const Measured& m, const Measured* reference) {
  const double images = static_cast<double>(setting.batch * ranks);
  std::string faster = "-";
  std::string memory = "-";
  if (reference != nullptr) {
    faster = fmt::format("{:.2f}x", (*reference)[kSeconds] / m[kSeconds]);
    memory = fmt::format("{:.2f}", m[kGigabytes] / (*reference)[kGigabytes]);
  }
  fmt::print(
      "{:>10} {:>5}  {:<14} {:>8.3f} s {:>9.2f} {:>7} {:>8.2f} GiB {:>6} {:>8.2f} {:>6.2f} "
      "{:>8.2f} {:>6.2f} {:>6.2f}  {:.3f}\n",
      identities, ranks, mode, m[kSeconds], images / m[kSeconds], faster, m[kGigabytes], memory,
      m[kForward], m[kHead], m[kBackward], m[kReduce], m[kUpdate], m[kLoss]);
  std::fflush(stdout);
}

// Beside the reference of the same precision, where it was measured.
void MeasureAll(const Setting& setting, std::int64_t identities, int ranks) {
  std::map<std::string, Measured> done;
  for (const std::string& mode : setting.modes) {
    const std::optional<Measured> measured = Measure(setting, mode, identities, ranks);
    if (!measured) {
      fmt::print("{:>10} {:>5}  {:<14} did not end: not enough memory?\n", identities, ranks, mode);
      continue;
    }
    done[mode] = *measured;
    const auto reference = done.find("reference-" + mode);
    PrintLine(setting, mode, identities, ranks, *measured,
              reference == done.end() ? nullptr : &reference->second);
  }
}

int RunOnProcessor(const Setting& setting) {
  if (!setting.measure.empty()) return RunRank(setting);
  fmt::print("{}, {} images a rank, {} cores for all ranks\n", setting.network, setting.batch,
             setting.cores);
  fmt::print(
      "{:>10} {:>5}  {:<14} {:>10} {:>9} {:>7} {:>12} {:>6} {:>8} {:>6} {:>8} {:>6} {:>6}  {}\n",
      "identities", "ranks", "mode", "step", "images/s", "faster", "peak", "memory", "forward",
      "head", "backward", "reduce", "update", "loss");
  for (const std::int64_t identities : setting.identities) {
    for (const int ranks : setting.ranks) MeasureAll(setting, identities, ranks);
  }
  return 0;
}

// What a GPU's measurements share with the processor's, if it was given; their defaults differ.
struct Given {
  const CLI::Option* identities;
  const CLI::Option* batch;
  const CLI::Option* steps;
  const CLI::Option* modes;
};

int Run(const Setting& setting, GpuTrainSetting gpu, const Given& given) {
  if (gpu.device == "cpu") return RunOnProcessor(setting);
  gpu.network = setting.network;
  if (given.identities->count() > 0) gpu.identities = setting.identities;
  if (given.batch->count() > 0) gpu.batch = setting.batch;
  if (given.steps->count() > 0) gpu.steps = setting.steps;
  if (given.modes->count() > 0) gpu.modes = setting.modes;
  if (!setting.measure.empty()) return MeasureGpuMode(gpu, setting.measure);
  return MeasureTrainingOnGpu(gpu);
}

std::vector<std::string> AllModes() {
  std::vector<std::string> modes = Setting().modes;
  for (const std::string& mode : AllGpuTrainModes()) {
    if (std::find(modes.begin(), modes.end(), mode) == modes.end()) modes.push_back(mode);
  }
  return modes;
}

}  // namespace
}  // namespace fr

int main(int argc, char** argv) {
  fr::Setting setting;
  fr::GpuTrainSetting gpu;
  gpu.device = "cpu";
  fr::Given given{};
  CLI::App app("Measures whole training steps.", "bench_train");
  app.add_option("--network", setting.network);
  app.add_option("--device", gpu.device, "cpu; or gpu, the first that this process may use")
      ->check(CLI::IsMember({"cpu", "gpu", "emulated_gpu"}));
  given.identities = app.add_option("--identities", setting.identities)
                         ->delimiter(',')
                         ->check(CLI::PositiveNumber);
  app.add_option("--ranks", setting.ranks)->delimiter(',')->check(CLI::PositiveNumber);
  given.batch =
      app.add_option("--batch", setting.batch, "images of a rank")->check(CLI::Range(2, 65536));
  given.steps = app.add_option("--steps", setting.steps, "measured steps; the median counts")
                    ->check(CLI::PositiveNumber);
  app.add_option("--cores", setting.cores, "threads of all ranks together")
      ->check(CLI::PositiveNumber);
  given.modes = app.add_option("--only", setting.modes, "modes")
                    ->delimiter(',')
                    ->check(CLI::IsMember(fr::AllModes()));
  app.add_option("--python", gpu.python, "of a GPU: one that has torch; measures PyTorch, too");
  app.add_option("--reference", gpu.reference, "of a GPU: where bench/gpu_reference.py is");
  app.add_option("--json", gpu.json, "of a GPU: the figures of the table, and more");
  app.add_option("--peak-size", gpu.peak_size,
                 "of a GPU: of the square products that are called the peak")
      ->check(CLI::PositiveNumber);
  app.add_option("--measure", setting.measure, "")->group("");  // hidden: see Measure
  return fr::RunCommand(app, argc, argv, [&] { return fr::Run(setting, gpu, given); });
}
