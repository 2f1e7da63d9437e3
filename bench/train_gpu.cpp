#include "bench/train_gpu.h"

#include <cstdio>
#include <filesystem>
#include <map>

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <torch/torch.h>

#include "bench/gpu_bench.h"
#include "bench/measure.h"
#include "bench/train_candidates.h"
#include "common/base/command_output.h"
#include "common/base/error.h"
#include "common/base/file.h"
#include "common/networks/costs.h"

namespace fr {
namespace {

using nlohmann::json;

// cuDNN chooses its kernels in the first, graphs are recorded in those after it.
constexpr int kWarmUpSteps = 5;
// Whose parts are timed; not those of the step's time, as waiting for the parts costs time.
constexpr int kStepsInParts = 3;
constexpr double kGibibyte = 0x1p30;

TrainSetting SettingOf(const GpuTrainSetting& setting, const std::string& mode) {
  TrainSetting train;
  if (!Network_Parse(setting.network, &train.network.network)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("--network {}: not known", setting.network));
  }
  train.identities = setting.identities.at(0);
  train.batch = setting.batch;
  train.bf16 = mode.ends_with("bf16");
  return train;
}

// ---- one mode ----

json MeasurePeak(GpuBench& bench, std::int64_t size) {
  return {{"gpu", bench.gpu().name()},
          {"total_bytes", bench.gpu().memory().total_bytes},
          {"fp32", ProductPeak(bench.gpu(), at::kFloat, size)},
          {"bf16", ProductPeak(bench.gpu(), at::kBFloat16, size)}};
}

json MeasureCandidate(GpuBench& bench, const GpuTrainSetting& setting, const std::string& mode) {
  const TrainSetting train = SettingOf(setting, mode);
  torch::manual_seed(1);
  const at::Tensor images = (torch::rand({setting.batch, 3, 112, 112}) * 2 - 1)
                                .to(bench.gpu().device())
                                .contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor labels = torch::randint(train.identities, {setting.batch}, torch::kInt64);
  const auto candidate = mode.starts_with("reference") ? MakeReference(train, bench.comm())
                                                       : MakeOwn(train, bench.comm());
  double loss = 0;
  StepTimes times;
  const auto step = [&] { loss = candidate->Step(images, labels, &times); };
  GpuSeconds(bench.gpu(), kWarmUpSteps, step);
  bench.gpu().ResetPeak();  // cuDNN's trials need more than the steps after them
  json answer{{"ms", 1e3 * Median(GpuSeconds(bench.gpu(), setting.steps, step))}};
  const GpuMemory memory = bench.gpu().memory();
  answer["peak_used_bytes"] = memory.peak_used_bytes;
  answer["peak_held_bytes"] = memory.peak_held_bytes;
  answer["loss"] = loss;
  times.until_done = true;
  GpuSeconds(bench.gpu(), kStepsInParts, step);
  answer["parts_ms"] = {{"forward", 1e3 * times.forward},
                        {"head", 1e3 * times.head},
                        {"backward", 1e3 * times.backward},
                        {"reduce", 1e3 * times.reduce},
                        {"update", 1e3 * times.update}};
  return answer;
}

// ---- all modes ----

// What `command` printed as its last line of JSON.
json AnswerOf(const std::string& command) {
  const auto [ended_well, text] = OutputOf(command);
  const std::size_t begin = text.starts_with('{') ? 0 : text.rfind("\n{") + 1;
  const json answer = json::parse(text.begin() + static_cast<std::ptrdiff_t>(begin), text.end(),
                                  nullptr, /*allow_exceptions=*/false);
  if (!ended_well || !answer.is_object()) return {{"why_not", "did not end well: see above"}};
  return answer;
}

// This program's own libraries are not Python's.
std::string PythonCommand(const GpuTrainSetting& setting, const std::string& mode) {
  return fmt::format(
      "LD_LIBRARY_PATH=\"${{FR_LIBRARY_PATH_BEFORE-$LD_LIBRARY_PATH}}\" '{}' '{}' --device {} "
      "--batch {} --identities {} --steps {}{}",
      setting.python, setting.reference.string(), setting.device == "gpu" ? "cuda" : "cpu",
      setting.batch, setting.identities.at(0), setting.steps,
      mode == "pytorch-compiled-bf16" ? " --compile" : "");
}

std::string OwnCommand(const GpuTrainSetting& setting, const std::string& mode) {
  return fmt::format(
      "'{}' --device {} --measure {} --network {} --identities {} --batch {} --steps {} "
      "--peak-size {}",
      std::filesystem::read_symlink("/proc/self/exe").string(), setting.device, mode,
      setting.network, setting.identities.at(0), setting.batch, setting.steps, setting.peak_size);
}

json MeasureMode(const GpuTrainSetting& setting, const std::string& mode) {
  if (!mode.starts_with("pytorch")) return AnswerOf(OwnCommand(setting, mode));
  if (setting.python.empty()) return {{"why_not", "left out: no --python"}};
  if (setting.network != "r50") return {{"why_not", "left out: the script knows r50 alone"}};
  return AnswerOf(PythonCommand(setting, mode));
}

// What the mathematics of a step multiplies and adds, however it is computed: of the network each
// product forward, for the gradient of its input and of its weights; of the head three products of
// identities, images and embedding size.
double StepOperations(const GpuTrainSetting& setting) {
  const TrainSetting train = SettingOf(setting, "");
  const auto network = static_cast<double>(CostsOf(MakeNetwork(train.network)).multiply_adds);
  const double head =
      static_cast<double>(train.identities) * static_cast<double>(train.network.embedding_size);
  return 2 * 3 * (network + head) * static_cast<double>(setting.batch);
}

// Of the same precision, the first of these that was measured.
const json* ReferenceFor(const std::string& mode, const std::map<std::string, json>& done) {
  const std::string precision = mode.ends_with("fp32") ? "fp32" : "bf16";
  for (const std::string kind : {"pytorch-", "reference-"}) {
    const auto found = done.find(kind + precision);
    if (found != done.end() && found->second.contains("ms")) return &found->second;
  }
  return nullptr;
}

void AddRates(const GpuTrainSetting& setting, const json& peak, const json* reference, json* line) {
  const double seconds = (*line)["ms"].get<double>() / 1e3;
  const double operations = StepOperations(setting) / seconds;
  const bool fp32 = (*line)["mode"].get<std::string>().ends_with("fp32");
  (*line)["images_per_s"] = static_cast<double>(setting.batch) / seconds;
  (*line)["tflops"] = operations / 1e12;
  if (peak.contains("bf16")) {
    (*line)["peak_tflops"] = peak[fp32 ? "fp32" : "bf16"].get<double>() / 1e12;
    (*line)["share_of_peak"] = operations / peak[fp32 ? "fp32" : "bf16"].get<double>();
  }
  if (reference == nullptr) return;
  (*line)["faster"] = (*reference)["ms"].get<double>() / 1e3 / seconds;
  // Held, not used: what a graph works with between its tensors counts as not used.
  const auto bytes = (*reference)["peak_held_bytes"].get<double>();
  if (bytes > 0) (*line)["memory_ratio"] = (*line)["peak_held_bytes"].get<double>() / bytes;
}

void PrintLine(const json& line) {
  fmt::print("{:>10} {:>5}  {:<22}", line["identities"].get<std::int64_t>(),
             line["batch"].get<std::int64_t>(), line["mode"].get<std::string>());
  if (!line.contains("ms")) {
    fmt::print(" {}\n", line.value("why_not", "no answer"));
    std::fflush(stdout);
    return;
  }
  fmt::print(" {:>11} {:>9} {:>7} {:>8} {:>7} {:>11} {:>6}", Figure(line, "ms", 1, " ms", 2),
             Figure(line, "images_per_s", 1, "", 0), Figure(line, "faster", 1, "x", 2),
             Figure(line, "tflops", 1, "", 1), Figure(line, "share_of_peak", 100, " %", 0),
             Figure(line, "peak_held_bytes", 1 / kGibibyte, " GiB", 2),
             Figure(line, "memory_ratio", 1, "", 2));
  const json parts = line.value("parts_ms", json::object());
  for (const char* part : {"forward", "head", "backward", "reduce", "update"}) {
    fmt::print(" {:>8}", Figure(parts, part, 1, "", 2));
  }
  fmt::print("  {}\n", Figure(line, "loss", 1, "", 3));
  std::fflush(stdout);
}

void PrintTitle(const GpuTrainSetting& setting, const json& peak) {
  fmt::print("{}, {}; LibTorch products of {}: {:.1f} TFLOP/s in float32, {:.1f} in bfloat16\n",
             setting.network, peak.value("gpu", "no GPU"), setting.peak_size,
             peak.value("fp32", 0.0) / 1e12, peak.value("bf16", 0.0) / 1e12);
  fmt::print(
      "{:>10} {:>5}  {:<22} {:>11} {:>9} {:>7} {:>8} {:>7} {:>11} {:>6} {:>8} {:>8} {:>8} {:>8} "
      "{:>8}  {}\n",
      "identities", "batch", "mode", "step", "images/s", "faster", "TFLOP/s", "of peak", "peak",
      "memory", "forward", "head", "backward", "reduce", "update", "loss");
  std::fflush(stdout);
}

bool Failed(const json& line) {
  const std::string why_not = line.value("why_not", "");
  return (why_not.starts_with("failed") || why_not.starts_with("did not")) &&
         line["mode"] != "pytorch-compiled-bf16";
}

// Whether all of them could be measured, or did not fit.
bool MeasureModes(const GpuTrainSetting& setting, const json& peak, json* lines) {
  bool well = true;
  std::map<std::string, json> done;
  for (const std::string& mode : setting.modes) {
    json line = MeasureMode(setting, mode);
    line.update({{"bench", "train"},
                 {"gpu", peak.value("gpu", "")},
                 {"network", setting.network},
                 {"mode", mode},
                 {"identities", setting.identities.at(0)},
                 {"batch", setting.batch},
                 {"steps", setting.steps}});
    done[mode] = line;
    if (line.contains("ms")) AddRates(setting, peak, ReferenceFor(mode, done), &line);
    PrintLine(line);
    well = well && !Failed(line);
    lines->push_back(std::move(line));
    if (!setting.json.empty()) WriteFileAtomically(setting.json, lines->dump(1));
  }
  return well;
}

}  // namespace

std::vector<std::string> AllGpuTrainModes() {
  return {"pytorch-bf16", "bf16",           "reference-bf16",
          "fp32",         "reference-fp32", "pytorch-compiled-bf16"};
}

int MeasureTrainingOnGpu(const GpuTrainSetting& setting) {
  SettingOf(setting, "");  // a network that is not known is said once
  const json peak = AnswerOf(OwnCommand(setting, "peak"));
  if (peak.contains("why_not")) {
    throw Error(ErrorCode::kUnavailable, "no GPU: " + peak["why_not"].get<std::string>());
  }
  PrintTitle(setting, peak);
  json lines = json::array();
  bool well = true;
  for (const std::int64_t identities : setting.identities) {
    GpuTrainSetting one = setting;
    one.identities = {identities};
    well = MeasureModes(one, peak, &lines) && well;
  }
  return well ? 0 : 1;
}

int MeasureGpuMode(const GpuTrainSetting& setting, const std::string& mode) {
  GpuBench bench(setting.device);
  json answer;
  const std::string why_not = WhyNot([&] {
    answer = mode == "peak" ? MeasurePeak(bench, setting.peak_size)
                            : MeasureCandidate(bench, setting, mode);
  });
  if (!why_not.empty()) answer = {{"why_not", why_not}};
  fmt::print("{}\n", answer.dump());
  return 0;
}

}  // namespace fr
