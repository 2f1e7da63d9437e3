#include "coordinator/cli/plan_text.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/cli/run_command.h"
#include "common/cli/text.h"
#include "common/config/job_config.h"

namespace fr {
namespace {

using json = nlohmann::ordered_json;

constexpr int kShownRanks = 8;

std::optional<std::int64_t> CountLines(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  std::vector<char> buffer(1 << 20);
  std::int64_t lines = 0;
  while (file.read(buffer.data(), static_cast<std::streamsize>(buffer.size())), file.gcount() > 0) {
    lines += std::count(buffer.begin(), buffer.begin() + file.gcount(), '\n');
  }
  return lines;
}

void Line(std::string& text, const std::string& title, const std::string& content) {
  text += fmt::format("  {:<9} {}\n", title, content);
}

// A step takes milliseconds or minutes.
std::string SecondsText(double seconds) {
  if (seconds >= 60) return DurationText(seconds);
  return seconds >= 1 ? fmt::format("{:.3g} s", seconds) : fmt::format("{:.3g} ms", seconds * 1000);
}

std::string ShareText(double part, double whole) {
  return fmt::format("{:.0f} %", whole > 0 ? 100 * part / whole : 0);
}

std::string DataText(const JobSpec& spec, const DataFacts& facts) {
  std::string text = spec.data().train();
  if (!facts.identities) {
    text += ": identities unknown, there is no property that can be read here";
  } else {
    text += fmt::format(": {} identities", CountText(*facts.identities));
  }
  if (facts.images) text += fmt::format(", {} images", CountText(*facts.images));
  return text;
}

std::string StepsText(const JobSpec& spec, const JobPlan& plan) {
  const std::string epochs = CountText(spec.train().epochs());
  if (!plan.steps_per_epoch) {
    return fmt::format("{} epochs; steps unknown without the number of images{}", epochs,
                       plan.steps ? fmt::format(", {} at most", CountText(*plan.steps)) : "");
  }
  return fmt::format("{}: {} epochs of {} steps{}", CountText(*plan.steps), epochs,
                     CountText(*plan.steps_per_epoch),
                     plan.cut_by_max_steps ? ", cut by train.max_steps" : "");
}

void DescribeJob(std::string& text, const JobSpec& spec, const DataFacts& facts,
                 const JobPlan& plan) {
  Line(text, "job", fmt::format("{}, priority {}", spec.name(), spec.priority()));
  Line(text, "workers",
       fmt::format("{}, {} threads each", CountText(plan.workers),
                   spec.resources().threads_per_worker()));
  Line(text, "data", DataText(spec, facts));
  for (const std::string& entry : spec.data().validation()) {
    Line(text, "verify",
         fmt::format("{}: {}", VerificationSetName(entry),
                     VerificationSetPath(spec.data(), entry).string()));
  }
  Line(text, "network",
       fmt::format("{}, embeddings of {} values", Network_Name(spec.model().network()),
                   spec.model().embedding_size()));
  Line(text, "batch", fmt::format("{} images per step", CountText(plan.total_batch)));
  Line(text, "steps", StepsText(spec, plan));
}

void DescribeHead(std::string& text, const JobSpec& spec, const DataFacts& facts,
                  const JobPlan& plan) {
  if (!plan.has_head) {
    Line(text, "head", "none: loss triplet compares embeddings");
    return;
  }
  if (!plan.shards) {
    Line(text, "head", "unknown, and left out below: say --identities");
    return;
  }
  Line(text, "head",
       fmt::format("{} x {} weights and the optimizer's state, float32: {} in all",
                   CountText(*facts.identities * spec.loss().sub_centers()),
                   spec.model().embedding_size(),
                   BytesText(*facts.identities * plan.head_row_bytes)));
  const int shown = std::min(plan.workers, kShownRanks);
  for (int rank = 0; rank < shown; ++rank) {
    const IdentityRange& range = plan.shards->ranges[static_cast<std::size_t>(rank)];
    Line(text, "",
         fmt::format("rank {}: identities [{}, {}), {}", rank, CountText(range.begin),
                     CountText(range.end), BytesText(range.size() * plan.head_row_bytes)));
  }
  if (plan.workers > shown) {
    Line(text, "", fmt::format("... and {} ranks more", plan.workers - shown));
  }
}

void DescribeItems(std::string& text, const std::vector<MemoryItem>& items) {
  const auto sum = static_cast<double>(SumOf(items));
  const auto largest =
      std::max_element(items.begin(), items.end(),
                       [](const MemoryItem& a, const MemoryItem& b) { return a.bytes < b.bytes; });
  for (const MemoryItem& item : items) {
    Line(text, "",
         fmt::format("{:>9}  {}{}", BytesText(item.bytes), item.text,
                     &item == &*largest
                         ? " <- the most, " + ShareText(static_cast<double>(item.bytes), sum)
                         : ""));
  }
}

std::string FitText(std::int64_t needed, const GpuOffer& gpu) {
  if (gpu.bytes == 0) return gpu.source;
  const std::int64_t left = gpu.bytes - needed;
  return fmt::format("{} has {}: {}", gpu.source, BytesText(gpu.bytes),
                     left >= 0 ? "it fits, and leaves " + BytesText(left)
                               : "IT DOES NOT FIT, there are " + BytesText(-left) + " too few");
}

void DescribeMemory(std::string& text, const JobSpec& spec, const JobPlan& plan,
                    const GpuOffer& gpu) {
  const std::string sum = BytesText(SumOf(plan.memory));
  if (plan.gpu_memory.empty()) {
    Line(text, "memory", fmt::format("about {} for each worker, rank 0 the most:", sum));
    DescribeItems(text, plan.memory);
    if (spec.resources().device() == Resources::auto_) {
      Line(text, "", "that is on a processor; --set resources.device=gpu plans a GPU");
    }
    return;
  }
  const std::int64_t on_gpu = SumOf(plan.gpu_memory);
  Line(text, "gpu",
       fmt::format("about {} of each worker's GPU, never compared with a real one:",
                   BytesText(on_gpu)));
  DescribeItems(text, plan.gpu_memory);
  Line(text, "", FitText(on_gpu, gpu));
  Line(text, "memory", fmt::format("about {} of its node for each worker, rank 0 the most:", sum));
  DescribeItems(text, plan.memory);
}

void DescribeTraffic(std::string& text, const JobPlan& plan) {
  const TrafficPlan& traffic = plan.traffic;
  if (plan.workers == 1) return;
  std::string content = fmt::format("{} sent by each worker in a step: gradients {}, embeddings {}",
                                    BytesText(traffic.total()), BytesText(traffic.gradients),
                                    BytesText(traffic.embeddings + traffic.embedding_gradients));
  if (traffic.softmax > 0) content += fmt::format(", softmax {}", BytesText(traffic.softmax));
  if (traffic.batch_norms > 0) {
    content += fmt::format(", batch norms {}", BytesText(traffic.batch_norms));
  }
  Line(text, "traffic", content);
}

void DescribeTime(std::string& text, const JobPlan& plan, const MachineModel& machine) {
  const TimePlan& time = plan.time;
  Line(text, "work",
       fmt::format("{:.3g} T multiply-adds by each worker in a step: backbone {:.3g}, head {:.3g}",
                   (plan.work.backbone + plan.work.head) / 1e12, plan.work.backbone / 1e12,
                   plan.work.head / 1e12));
  Line(text, "time",
       fmt::format("about {} a step, {} images/s, if a machine is: {}", SecondsText(time.step),
                   RateText(static_cast<double>(plan.total_batch) / time.step), machine.name()));
  const auto part = [&](const char* what, double seconds) {
    if (seconds <= 0) return;
    Line(text, "",
         fmt::format("{:>9}  {} ({})", SecondsText(seconds), what, ShareText(seconds, time.step)));
  };
  if (!plan.gpu_memory.empty() && machine.rates_of() == MachineModel::thread) {
    Line(text, "", "those are a processor's rates: configs/machines has GPUs' for --machine");
  }
  part("forward pass", time.forward);
  part("head", time.head);
  part("backward pass", time.backward);
  part("update of the backbone", time.update);
  part("gradients on their way, beyond what the backward pass hides", time.gradients - time.hidden);
  part("other messages", time.messages);
  part("waiting for images: raise data.loader_threads", time.loader);
  if (time.hidden > 0) {
    Line(text, "",
         fmt::format("{} of the gradients' {} are hidden behind the backward pass",
                     ShareText(time.hidden, time.gradients), SecondsText(time.gradients)));
  }
  if (plan.epoch_seconds) {
    Line(text, "", fmt::format("about {} an epoch", DurationText(*plan.epoch_seconds)));
  }
  if (plan.job_seconds) {
    Line(text, "",
         fmt::format("about {} for the whole job, without validations and checkpoints",
                     DurationText(*plan.job_seconds)));
  }
}

template <class Value>
json OrNull(const std::optional<Value>& value) {
  return value ? json(*value) : json();
}

json HeadJson(const JobPlan& plan) {
  if (!plan.shards) return {};
  json shards = json::array();
  for (const IdentityRange& range : plan.shards->ranges) {
    shards.push_back({{"begin", range.begin},
                      {"end", range.end},
                      {"bytes", range.size() * plan.head_row_bytes}});
  }
  return {{"bytes_per_identity", plan.head_row_bytes}, {"shards", shards}};
}

json ItemsJson(const std::vector<MemoryItem>& items) {
  json all = json::array();
  for (const MemoryItem& item : items) {
    all.push_back({{"item", item.key}, {"text", item.text}, {"bytes", item.bytes}});
  }
  return all;
}

// Null for a job that is planned on a processor.
json GpuJson(const JobPlan& plan, const GpuOffer& gpu) {
  if (plan.gpu_memory.empty()) return {};
  const std::int64_t sum = SumOf(plan.gpu_memory);
  const bool known = gpu.bytes > 0;
  return {{"memory_bytes", sum},
          {"memory", ItemsJson(plan.gpu_memory)},
          {"available_bytes", known ? json(gpu.bytes) : json()},
          {"source", gpu.source},
          {"fits", known ? json(sum <= gpu.bytes) : json()}};
}

json TimeJson(const JobPlan& plan, const MachineModel& machine) {
  const TimePlan& time = plan.time;
  return {{"machine", machine.name()},
          {"forward", time.forward},
          {"head", time.head},
          {"backward", time.backward},
          {"update", time.update},
          {"gradients", time.gradients},
          {"hidden", time.hidden},
          {"messages", time.messages},
          {"loader", time.loader},
          {"step", time.step},
          {"epoch", OrNull(plan.epoch_seconds)},
          {"job", OrNull(plan.job_seconds)}};
}

GpuOffer OfferFor(const PlanOptions& options, const JobSpec& spec, const MachineModel& machine) {
  const bool asks = spec.resources().device() == Resources::gpu && !machine.has_gpu_memory_gib();
  if (!asks || !options.nodes) return GpuOfMachine(machine);
  try {
    return SmallestGpu(options.nodes(), spec.resources());
  } catch (const Error& error) {
    GpuOffer unknown = GpuOfMachine(machine);
    unknown.source += fmt::format(" ({})", error.what());
    return unknown;
  }
}

}  // namespace

DataFacts ReadDataFacts(const std::string& directory) {
  DataFacts facts;
  const std::filesystem::path path(directory);
  try {
    const std::string property = ReadFile(path / "property");
    const std::int64_t identities = std::strtoll(property.c_str(), nullptr, 10);
    if (identities > 0) facts.identities = identities;
  } catch (const Error&) {
    return facts;
  }
  // train.idx has a line for the header, for each image and for each identity.
  const auto lines = CountLines(path / "train.idx");
  if (lines && facts.identities && *lines > *facts.identities + 1) {
    facts.images = *lines - *facts.identities - 1;
  }
  return facts;
}

MachineConfig LoadMachine(const std::string& path) {
  MachineConfig config;
  if (path.empty()) return config;
  const YamlMessage yaml(ReadFile(path), path, {}, &config.machine);
  config.diagnostics = yaml.diagnostics();
  return config;
}

std::string DescribePlan(const JobSpec& spec, const DataFacts& facts, const MachineModel& machine,
                         const GpuOffer& gpu) {
  const JobPlan plan = PlanJob(spec, facts, machine);
  std::string text;
  DescribeJob(text, spec, facts, plan);
  DescribeHead(text, spec, facts, plan);
  DescribeMemory(text, spec, plan, gpu);
  DescribeTraffic(text, plan);
  DescribeTime(text, plan, machine);
  return text;
}

std::string PlanJson(const JobSpec& spec, const DataFacts& facts, const MachineModel& machine,
                     const GpuOffer& gpu) {
  const JobPlan plan = PlanJob(spec, facts, machine);
  const TrafficPlan& traffic = plan.traffic;
  const json all = {{"name", spec.name()},
                    {"workers", plan.workers},
                    {"total_batch_size", plan.total_batch},
                    {"images_per_worker", plan.share.images},
                    {"identities", OrNull(facts.identities)},
                    {"images", OrNull(facts.images)},
                    {"steps_per_epoch", OrNull(plan.steps_per_epoch)},
                    {"steps", OrNull(plan.steps)},
                    {"head", HeadJson(plan)},
                    {"memory_bytes", SumOf(plan.memory)},
                    {"memory", ItemsJson(plan.memory)},
                    {"gpu", GpuJson(plan, gpu)},
                    {"sent_bytes",
                     {{"gradients", traffic.gradients},
                      {"embeddings", traffic.embeddings},
                      {"softmax", traffic.softmax},
                      {"embedding_gradients", traffic.embedding_gradients},
                      {"batch_norms", traffic.batch_norms},
                      {"total", traffic.total()}}},
                    {"multiply_adds", {{"backbone", plan.work.backbone}, {"head", plan.work.head}}},
                    {"seconds", TimeJson(plan, machine)}};
  return all.dump(2) + "\n";
}

int RunPlan(const PlanOptions& options) {
  const JobConfig config = LoadJobConfig(options.job_file, options.overrides, PathCheck::kIgnore);
  const MachineConfig machine = LoadMachine(options.machine_file);
  const std::string mistakes =
      FormatDiagnostics(config.diagnostics) + FormatDiagnostics(machine.diagnostics);
  if (!mistakes.empty()) {
    fmt::print(stderr, "{}", mistakes);
    return kExitInvalid;
  }
  DataFacts facts;
  if (!options.identities || !options.images) facts = ReadDataFacts(config.spec.data().train());
  if (options.identities) facts.identities = options.identities;
  if (options.images) facts.images = options.images;
  const GpuOffer gpu = OfferFor(options, config.spec, machine.machine);
  fmt::print("{}", options.json ? PlanJson(config.spec, facts, machine.machine, gpu)
                                : DescribePlan(config.spec, facts, machine.machine, gpu));
  return kExitDone;
}

}  // namespace fr
