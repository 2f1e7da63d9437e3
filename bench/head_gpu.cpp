#include "bench/head_gpu.h"

#include <iostream>
#include <map>
#include <utility>

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <torch/torch.h>

#include "bench/gpu_bench.h"
#include "bench/head_reference.h"
#include "bench/measure.h"
#include "common/base/file.h"
#include "worker/heads/margin_head.h"

namespace fr {
namespace {

// So small that the rows stay what they are, whatever the number of steps.
constexpr double kLr = 1e-6;
constexpr int kWarmUpSteps = 3;

struct Case {
  std::string mode;
  std::int64_t identities = 0;
  std::int64_t batch = 0;

  bool is_reference() const {
    return mode.starts_with("reference") || mode.starts_with("in-place");
  }
  bool bf16() const { return !mode.ends_with("fp32"); }
  bool trained() const { return mode == "tolerance-trained"; }
  // How many of the products of identities, samples and embedding size a step computes, where it
  // computes them for all identities: the reference keeps the logits, the head computes them twice.
  // 0: it depends on the embeddings.
  int products() const { return is_reference() ? 3 : mode == "fp32" || mode == "bf16" ? 4 : 0; }
};

// Operations a second.
struct Peaks {
  double fp32 = 0;
  double bf16 = 0;
};

struct Measured {
  std::string why_not;  // not empty: there are no figures
  double seconds = 0;   // median
  GpuMemory memory;
  double loss = 0;
  double skipped = 0;
};

// Of a network before training; or, trained, at an angle with cosine 0.8 to their centres.
at::Tensor Embeddings(const Case& one, const at::Tensor& weight, const at::Tensor& labels) {
  namespace F = torch::nn::functional;
  const at::Tensor noise = F::normalize(torch::randn({one.batch, weight.size(1)}, weight.device()));
  if (!one.trained()) return noise * 20;
  return (F::normalize(weight.index({labels})) * 0.8 + noise * 0.6) * 20;
}

MarginHeadOptions OptionsOf(const Case& one, std::int64_t dim) {
  MarginHeadOptions options;
  options.shard.embedding_size = dim;
  options.shard.bf16_products = one.bf16();
  if (one.mode.starts_with("tolerance")) options.mass_tolerance = 1e-3;
  if (one.mode == "sampled") options.sample_rate = 0.1;
  return options;
}

class HeadBench {
 public:
  explicit HeadBench(const GpuHeadSetting& setting) : setting_(setting), bench_(setting.device) {
    gpu().ResetPeak();
    peaks_.fp32 = ProductPeak(gpu(), at::kFloat, setting.peak_size);
    peaks_.bf16 = ProductPeak(gpu(), at::kBFloat16, setting.peak_size);
  }

  int Run() {
    PrintTitle();
    bool failed = false;
    for (std::size_t i = 0; i < setting_.identities.size(); ++i) {
      std::map<std::string, Measured> done;
      for (const std::string& mode : setting_.modes) {
        const Case one{mode, setting_.identities[i], setting_.batches[i]};
        const Measured measured = Measure(one);
        done[mode] = measured;
        const Measured& reference = done[one.bf16() ? "reference-bf16" : "reference-fp32"];
        Report(one, measured, reference.seconds > 0 ? &reference : nullptr);
        failed = failed || measured.why_not.starts_with("failed");
      }
    }
    return failed ? 1 : 0;
  }

 private:
  Gpu& gpu() { return bench_.gpu(); }

  Measured Measure(const Case& one) {
    Measured measured;
    measured.why_not = WhyNot([&] {
      gpu().ResetPeak();
      torch::manual_seed(1);
      if (one.is_reference()) {
        MeasureReference(one, &measured);
      } else {
        MeasureHead(one, &measured);
      }
      measured.memory = gpu().memory();
    });
    return measured;
  }

  double MedianStep(const std::function<void()>& step) {
    GpuSeconds(gpu(), kWarmUpSteps, step);
    return Median(GpuSeconds(gpu(), setting_.steps, step));
  }

  void MeasureReference(const Case& one, Measured* measured) {
    HeadReference reference({.identities = one.identities,
                             .dim = setting_.dim,
                             .lr = kLr,
                             .device = gpu().device(),
                             .bf16 = one.bf16(),
                             .in_place = one.mode.starts_with("in-place")});
    const at::Tensor labels =
        torch::randint(one.identities, {one.batch}, torch::kInt64).to(gpu().device());
    const at::Tensor x = Embeddings(one, reference.weight(), labels);
    measured->seconds = MedianStep([&] { measured->loss = reference.Step(x, labels); });
  }

  void MeasureHead(const Case& one, Measured* measured) {
    MarginHead head(OptionsOf(one, setting_.dim), {0, one.identities}, bench_.comm());
    const at::Tensor labels = torch::randint(one.identities, {one.batch}, torch::kInt64);
    const at::Tensor x =
        Embeddings(one, head.RowTensors()[0].second, labels.to(gpu().device())).contiguous();
    measured->seconds = MedianStep([&] {
      const HeadStepResult result = head.Step(x, labels, {one.batch}, kLr);
      measured->loss = result.loss;
      measured->skipped = result.skipped_share;
    });
  }

  // Of the mathematics: what is multiplied, however a kernel does it.
  double OperationsPerSecond(const Case& one, const Measured& m) const {
    return one.products() * 2.0 * static_cast<double>(one.identities) *
           static_cast<double>(one.batch) * static_cast<double>(setting_.dim) / m.seconds;
  }

  // In float32 the head computes each product as six of bfloat16, on the units of that peak.
  double ShareOfPeak(const Case& one, double operations) const {
    if (one.bf16()) return operations / peaks_.bf16;
    return one.is_reference() ? operations / peaks_.fp32 : 6 * operations / peaks_.bf16;
  }

  void PrintTitle() {
    std::cout << fmt::format(
        "{}, {:.1f} GiB; LibTorch products of {}: {:.1f} TFLOP/s in float32, {:.1f} in bfloat16; "
        "D = {}\n",
        gpu().name(), static_cast<double>(gpu().memory().total_bytes) / kGibibyte,
        setting_.peak_size, peaks_.fp32 / 1e12, peaks_.bf16 / 1e12, setting_.dim);
    std::cout << fmt::format(
        "{:>10} {:>5}  {:<18} {:>12} {:>7} {:>8} {:>7} {:>11} {:>6} {:>8}  {}\n", "identities",
        "batch", "mode", "step", "faster", "TFLOP/s", "of peak", "peak", "memory", "skipped",
        "loss");
  }

  void Report(const Case& one, const Measured& m, const Measured* reference) {
    nlohmann::json line{{"bench", "head"},
                        {"gpu", gpu().name()},
                        {"mode", one.mode},
                        {"identities", one.identities},
                        {"batch", one.batch},
                        {"dim", setting_.dim},
                        {"steps", setting_.steps},
                        {"bf16_peak_tflops", peaks_.bf16 / 1e12},
                        {"fp32_peak_tflops", peaks_.fp32 / 1e12}};
    if (m.why_not.empty()) {
      AddFigures(one, m, reference, &line);
      PrintLine(one, line);
    } else {
      line["why_not"] = m.why_not;
      std::cout << fmt::format("{:>10} {:>5}  {:<18} {}\n", one.identities, one.batch, one.mode,
                               m.why_not)
                << std::flush;
    }
    lines_.push_back(std::move(line));
    if (!setting_.json.empty()) WriteFileAtomically(setting_.json, lines_.dump(1));
  }

  void AddFigures(const Case& one, const Measured& m, const Measured* reference,
                  nlohmann::json* line) {
    (*line)["ms"] = 1e3 * m.seconds;
    (*line)["loss"] = m.loss;
    (*line)["skipped_share"] = m.skipped;
    (*line)["peak_used_bytes"] = m.memory.peak_used_bytes;
    (*line)["peak_held_bytes"] = m.memory.peak_held_bytes;
    if (one.products() > 0) {
      const double operations = OperationsPerSecond(one, m);
      (*line)["products"] = one.products();
      (*line)["tflops"] = operations / 1e12;
      (*line)["share_of_peak"] = ShareOfPeak(one, operations);
    }
    if (reference == nullptr) return;
    (*line)["faster"] = reference->seconds / m.seconds;
    if (reference->memory.peak_used_bytes == 0) return;
    (*line)["memory_ratio"] = static_cast<double>(m.memory.peak_used_bytes) /
                              static_cast<double>(reference->memory.peak_used_bytes);
  }

  static void PrintLine(const Case& one, const nlohmann::json& line) {
    std::cout << fmt::format(
                     "{:>10} {:>5}  {:<18} {:>12} {:>7} {:>8} {:>7} {:>11} {:>6} {:>8}  {}\n",
                     one.identities, one.batch, one.mode, Figure(line, "ms", 1, " ms", 3),
                     Figure(line, "faster", 1, "x", 2), Figure(line, "tflops", 1, "", 1),
                     Figure(line, "share_of_peak", 100, " %", 0),
                     Figure(line, "peak_used_bytes", 1.0 / kGibibyte, " GiB", 2),
                     Figure(line, "memory_ratio", 1, "", 2),
                     Figure(line, "skipped_share", 100, " %", 1), Figure(line, "loss", 1, "", 3))
              << std::flush;
  }

  static constexpr double kGibibyte = 0x1p30;

  GpuHeadSetting setting_;
  GpuBench bench_;
  Peaks peaks_;
  nlohmann::json lines_ = nlohmann::json::array();
};

}  // namespace

std::vector<std::string> GpuHeadModes() {
  return {"reference-fp32", "reference-bf16", "in-place-bf16",     "fp32",
          "bf16",           "tolerance",      "tolerance-trained", "sampled"};
}

int MeasureHeadsOnGpu(const GpuHeadSetting& setting) { return HeadBench(setting).Run(); }

}  // namespace fr
