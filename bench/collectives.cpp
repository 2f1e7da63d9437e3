// What each collective costs on this machine and these links, by size, and the two numbers that
// docs/scaling.md reckons with: time = alpha + bytes * beta.
//
//   mpirun -np P bench_collectives [--min-kib N] [--max-kib N] [--repeats R] [--json FILE]
//
// Bytes are those of RecordingCommunicator: what one rank contributes. A time is the median of
// several calls, each after a barrier, on the rank that needs longest. alpha and beta are the least
// squares of the relative error, so that small messages count as much as large ones.

#include <algorithm>
#include <fstream>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <torch/torch.h>

#include "bench/measure.h"
#include "worker/comm/mpi_communicator.h"

namespace fr {
namespace {

struct Setting {
  std::int64_t min_kib = 1;
  std::int64_t max_kib = 64 << 10;
  int repeats = 9;
  std::string json;
};

struct Collective {
  std::string name;
  bool deterministic = false;
  std::function<void(Communicator&, at::Tensor&)> call;  // float32, [n]
};

std::vector<std::int64_t> EvenRows(const at::Tensor& all, int world) {
  return std::vector<std::int64_t>(static_cast<std::size_t>(world), all.size(0) / world);
}

std::vector<Collective> Collectives() {
  const auto sum = [](Communicator& comm, at::Tensor& x) { comm.AllReduceSum(x); };
  return {
      {"all_reduce_sum", false, sum},
      {"all_reduce_sum, in rank order", true, sum},
      {"all_reduce_sum, beside, fp32", false,
       [](Communicator& comm, at::Tensor& x) {
         comm.StartAllReduceSum(x, Wire::kFloat32)->Wait();
       }},
      {"all_reduce_sum, beside, bf16", false,
       [](Communicator& comm, at::Tensor& x) {
         comm.StartAllReduceSum(x, Wire::kBFloat16)->Wait();
       }},
      {"all_reduce_max", false, [](Communicator& comm, at::Tensor& x) { comm.AllReduceMax(x); }},
      {"all_gather_rows", false,
       [](Communicator& comm, at::Tensor& x) {
         comm.AllGatherRows(
             x, std::vector<std::int64_t>(static_cast<std::size_t>(comm.world_size()), x.size(0)));
       }},
      {"reduce_scatter_rows", false,
       [](Communicator& comm, at::Tensor& x) {
         comm.ReduceScatterRows(x, EvenRows(x, comm.world_size()));
       }},
      {"broadcast", false, [](Communicator& comm, at::Tensor& x) { comm.Broadcast(x, 0); }},
  };
}

struct Point {
  double bytes = 0;
  double seconds = 0;
};

struct Fit {
  double alpha = 0;  // seconds
  double beta = 0;   // seconds a byte
  double worst = 0;  // relative error of the points
};

// Least squares of ((alpha + beta bytes) / seconds - 1); neither below zero.
Fit FitOf(const std::vector<Point>& points) {
  double ww = 0;
  double wb = 0;
  double bb = 0;
  double w1 = 0;
  double b1 = 0;
  for (const Point& point : points) {
    const double w = 1 / point.seconds;
    const double b = point.bytes / point.seconds;
    ww += w * w;
    wb += w * b;
    bb += b * b;
    w1 += w;
    b1 += b;
  }
  const double determinant = ww * bb - wb * wb;
  Fit fit;
  if (determinant > 0) {
    fit.alpha = (w1 * bb - b1 * wb) / determinant;
    fit.beta = (b1 * ww - w1 * wb) / determinant;
  }
  if (fit.alpha < 0 || determinant <= 0) fit = {0, b1 / bb, 0};
  if (fit.beta < 0) fit = {w1 / ww, 0, 0};
  for (const Point& point : points) {
    const double error = (fit.alpha + fit.beta * point.bytes) / point.seconds - 1;
    fit.worst = std::max(fit.worst, std::abs(error));
  }
  return fit;
}

Point Measure(const Collective& collective, std::int64_t bytes, int repeats, Communicator& comm) {
  at::Tensor x = at::zeros({bytes / 4 / comm.world_size() * comm.world_size()});
  comm.SetDeterministic(collective.deterministic);
  std::vector<double> seconds;
  for (int i = 0; i <= repeats; ++i) {
    comm.Barrier();
    const double elapsed = Seconds([&] { collective.call(comm, x); });
    if (i > 0) seconds.push_back(elapsed);  // the first touches memory and opens links
  }
  at::Tensor slowest = at::tensor({Median(std::move(seconds))}, at::kDouble);
  comm.AllReduceMax(slowest);
  return {static_cast<double>(4 * x.numel()), slowest.item<double>()};
}

std::vector<std::int64_t> Sizes(const Setting& setting) {
  std::vector<std::int64_t> sizes;
  for (std::int64_t kib = setting.min_kib; kib <= setting.max_kib; kib *= 4) {
    sizes.push_back(kib << 10);
  }
  return sizes;
}

std::string SizeName(std::int64_t bytes) {
  return bytes < (1 << 20) ? fmt::format("{} KiB", bytes >> 10)
                           : fmt::format("{} MiB", bytes >> 20);
}

void PrintHead(const std::vector<std::int64_t>& sizes, int world) {
  std::cout << fmt::format("{} ranks; milliseconds by bytes that a rank contributes\n{:<31}", world,
                           "");
  for (const std::int64_t size : sizes) std::cout << fmt::format("{:>9}", SizeName(size));
  std::cout << fmt::format("{:>11} {:>9} {:>7}\n", "alpha", "1/beta", "worst");
}

void PrintRow(const Collective& collective, const std::vector<Point>& points, const Fit& fit) {
  std::cout << fmt::format("{:<31}", collective.name);
  for (const Point& point : points) std::cout << fmt::format("{:>9.3f}", point.seconds * 1e3);
  const double gigabytes = fit.beta > 0 ? 1e-9 / fit.beta : 0;
  std::cout << fmt::format("{:>8.1f} us {:>4.1f} GB/s {:>5.0f} %\n", fit.alpha * 1e6, gigabytes,
                           100 * fit.worst)
            << std::flush;
}

int Run(int argc, char** argv) {
  MpiSession session(&argc, &argv);
  Setting setting;
  CLI::App app("Measures the collectives of training and fits time = alpha + bytes * beta.");
  app.add_option("--min-kib", setting.min_kib, "smallest message")->check(CLI::PositiveNumber);
  app.add_option("--max-kib", setting.max_kib, "largest message")->check(CLI::PositiveNumber);
  app.add_option("--repeats", setting.repeats, "measured calls; the median counts")
      ->check(CLI::PositiveNumber);
  app.add_option("--json", setting.json, "the same for programs, into this file");
  CLI11_PARSE(app, argc, argv);
  at::set_num_threads(1);
  MpiCommunicator comm;
  const bool reports = comm.rank() == 0;
  const std::vector<std::int64_t> sizes = Sizes(setting);
  if (reports) PrintHead(sizes, comm.world_size());
  nlohmann::json report = {{"ranks", comm.world_size()}, {"collectives", nlohmann::json::array()}};
  for (const Collective& collective : Collectives()) {
    std::vector<Point> points;
    for (const std::int64_t size : sizes) {
      points.push_back(Measure(collective, size, setting.repeats, comm));
    }
    const Fit fit = FitOf(points);
    if (reports) PrintRow(collective, points, fit);
    nlohmann::json entry = {{"name", collective.name},
                            {"alpha_seconds", fit.alpha},
                            {"beta_seconds_per_byte", fit.beta},
                            {"worst_relative_error", fit.worst}};
    for (const Point& point : points) {
      entry["points"].push_back({{"bytes", point.bytes}, {"seconds", point.seconds}});
    }
    report["collectives"].push_back(std::move(entry));
  }
  if (!reports || setting.json.empty()) return 0;
  std::ofstream file(setting.json);
  file << report.dump(2) << "\n";
  if (!file.flush()) {
    std::cerr << "bench_collectives: " << setting.json << " cannot be written\n";
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace fr

int main(int argc, char** argv) { return fr::Run(argc, argv); }
