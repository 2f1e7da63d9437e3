#include "common/config/job_config.h"

#include <algorithm>
#include <numbers>
#include <optional>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/config/network_rules.h"
#include "common/config/set_layout.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxNameLength = 128;

// `path` as seen from the job file's directory.
std::string Resolve(const fs::path& base, const std::string& path) {
  return (base / path).lexically_normal().string();
}

bool IsSetName(const std::string& entry) {
  return entry.find('/') == std::string::npos && !entry.ends_with(".bin");
}

void ResolvePaths(const fs::path& base, JobSpec* spec) {
  DataSpec* data = spec->mutable_data();
  if (data->has_train()) data->set_train(Resolve(base, data->train()));
  for (std::string& entry : *data->mutable_validation()) {
    if (!IsSetName(entry)) entry = Resolve(base, entry);
  }
  ModelSpec* model = spec->mutable_model();
  if (model->has_pretrained()) model->set_pretrained(Resolve(base, model->pretrained()));
}

void CheckName(const JobSpec& spec, YamlMessage* yaml) {
  const std::string& name = spec.name();
  const bool valid = std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-';
  });
  if (!spec.has_name()) return;
  if (!valid || name.starts_with('.') || name.size() > kMaxNameLength) {
    yaml->AddError("name",
                   fmt::format("'{}' is no name: up to {} letters, digits, '.', '_' and '-' "
                               "are, not beginning with '.'",
                               name.substr(0, kMaxNameLength), kMaxNameLength));
  }
}

void CheckBatch(const JobSpec& spec, YamlMessage* yaml) {
  const DataSpec& data = spec.data();
  if (!data.has_total_batch_size()) return;
  if (data.has_batch_size()) {
    yaml->AddError("data.total_batch_size",
                   "stands beside data.batch_size; give one: images of all workers, or of each");
  } else if (data.total_batch_size() < spec.resources().workers()) {
    yaml->AddError("data.total_batch_size",
                   fmt::format("{} images cannot be split over {} workers: give at least one each",
                               data.total_batch_size(), spec.resources().workers()));
  }
}

void CheckSchedule(const JobSpec& spec, YamlMessage* yaml) {
  const ScheduleSpec& schedule = spec.optimizer().schedule();
  const std::string key = "optimizer.schedule.steps";
  if (schedule.type() == ScheduleType::step && schedule.steps_size() == 0) {
    yaml->AddError(key,
                   "is missing: type step needs the steps where the rate falls, such as "
                   "[100000, 160000, 220000]");
  }
  if (schedule.type() != ScheduleType::step && schedule.steps_size() > 0) {
    yaml->AddError(key, "belongs to type step only; remove it, or set type: step");
  }
  for (int i = 1; i < schedule.steps_size(); ++i) {
    if (schedule.steps(i) > schedule.steps(i - 1)) continue;
    yaml->AddError(fmt::format("{}[{}]", key, i),
                   fmt::format("{} does not come after {}: steps must ascend", schedule.steps(i),
                               schedule.steps(i - 1)));
  }
}

void CheckOptimizer(const JobSpec& spec, YamlMessage* yaml) {
  const OptimizerSpec& optimizer = spec.optimizer();
  const OptimizerType type = optimizer.type();
  const auto belongs_to = [&](bool given, const std::string& key, OptimizerType owner) {
    if (!given || type == owner) return;
    yaml->AddError("optimizer." + key,
                   fmt::format("is of type {}, not of {}: remove it, or set type: {}",
                               OptimizerType_Name(owner), OptimizerType_Name(type),
                               OptimizerType_Name(owner)));
  };
  belongs_to(optimizer.nesterov(), "nesterov", OptimizerType::sgd);
  belongs_to(optimizer.has_beta1(), "beta1", OptimizerType::adamw);
  belongs_to(optimizer.has_beta2(), "beta2", OptimizerType::adamw);
  belongs_to(optimizer.has_epsilon(), "epsilon", OptimizerType::adamw);
  belongs_to(optimizer.has_trust_coefficient(), "trust_coefficient", OptimizerType::lars);
  if (optimizer.has_momentum() && type == OptimizerType::adamw) {
    yaml->AddError("optimizer.momentum", "is of sgd and lars; adamw has beta1");
  }
  if (optimizer.nesterov() && optimizer.momentum() == 0) {
    yaml->AddError("optimizer.nesterov", "needs a momentum above 0");
  }
}

// An elastic job may have any number of workers between its two.
void CheckAccumulation(const JobSpec& spec, YamlMessage* yaml) {
  if (spec.train().accumulate() == 1) return;
  const Resources& resources = spec.resources();
  int workers = resources.has_min_workers() ? resources.min_workers() : resources.workers();
  for (; workers <= resources.workers(); ++workers) {
    const std::string mistake = AccumulationMistake(spec, workers);
    if (!mistake.empty()) return yaml->AddError("train.accumulate", mistake);
  }
}

void CheckResources(const JobSpec& spec, YamlMessage* yaml) {
  const Resources& resources = spec.resources();
  if (resources.has_min_workers() && resources.min_workers() > resources.workers()) {
    yaml->AddError("resources.min_workers",
                   fmt::format("{} is more than resources.workers, {}", resources.min_workers(),
                               resources.workers()));
  }
  for (int i = 0; i < resources.labels_size(); ++i) {
    if (!resources.labels(i).empty()) continue;
    yaml->AddError(fmt::format("resources.labels[{}]", i),
                   "is empty; a label of a node or a node's name is expected");
  }
}

// What a head has and triplets have not.
void CheckTriplet(const JobSpec& spec, YamlMessage* yaml) {
  const LossSpec& loss = spec.loss();
  if (loss.type() != LossType::triplet) {
    if (loss.has_triplet()) yaml->AddError("loss.triplet", "belongs to type triplet only");
    return;
  }
  const auto no_head = [&](bool given, const char* key) {
    if (given) yaml->AddError(key, "is about a head, which triplet has not: remove it");
  };
  no_head(loss.has_scale(), "loss.scale");
  no_head(loss.has_sub_centers(), "loss.sub_centers");
  no_head(loss.has_sample_rate(), "loss.sample_rate");
  no_head(loss.has_mass_tolerance(), "loss.mass_tolerance");
  no_head(loss.has_filter_threshold(), "loss.filter_threshold");
  no_head(loss.has_margin_gradient(), "loss.margin_gradient");
  no_head(spec.optimizer().has_head_lr_multiplier(), "optimizer.head_lr_multiplier");
  if (spec.data().order() != DataSpec::identities) {
    yaml->AddError(
        "data.order",
        "must be identities for loss triplet: otherwise hardly any two images of a batch "
        "are of one identity");
  }
  if (spec.train().accumulate() > 1) {
    yaml->AddError("train.accumulate", "would compare only images of one part: remove it");
  }
}

void CheckModel(const JobSpec& spec, YamlMessage* yaml) {
  const ModelSpec& model = spec.model();
  const std::string name = Network_Name(model.network());
  if (model.squeeze_excite() && !HasSqueezeExcite(model.network())) {
    yaml->AddError("model.squeeze_excite", name + " has none; r18, r34, r50, r100 and r200 do");
  }
  if (model.has_output() && !HasOutputs(model.network())) {
    yaml->AddError("model.output", name + " has one way from tokens to the embedding; remove it");
  }
  const ModelSpec::Output output =
      model.has_output() ? model.output() : DefaultOutput(model.network());
  if (model.dropout() > 0 && (!HasOutputs(model.network()) || output != ModelSpec::E)) {
    yaml->AddError("model.dropout",
                   "is of output E: remove it, or set model.output: E where the network has it");
  }
}

void CheckLoss(const JobSpec& spec, YamlMessage* yaml) {
  const LossSpec& loss = spec.loss();
  const LossType type = loss.type();
  const std::string name = LossType_Name(type);
  const bool unscaled = type == LossType::softmax || type == LossType::sphereface;
  const bool has_margin = type != LossType::softmax && type != LossType::normalized_softmax &&
                          type != LossType::combined && type != LossType::magface;
  if (loss.has_margin() && !has_margin) {
    yaml->AddError("loss.margin", name + " has none" +
                                      (type == LossType::combined  ? ": give loss.m1, m2 and m3"
                                       : type == LossType::magface ? ": give loss.magface"
                                                                   : ""));
  }
  const double largest = type == LossType::sphereface ? 16
                         : type == LossType::triplet  ? 4
                         : type == LossType::cosface  ? 1
                                                      : std::numbers::pi;
  if (loss.has_margin() && has_margin && loss.margin() > largest) {
    yaml->AddError("loss.margin", fmt::format("{} is more than {}, the largest for {}",
                                              loss.margin(), largest, name));
  }
  if (type == LossType::sphereface && loss.has_margin() && loss.margin() == 0) {
    yaml->AddError("loss.margin", "is the factor of the angle: it must be above 0");
  }
  if (loss.has_scale() && unscaled) {
    yaml->AddError("loss.scale", name + " has none: its logits are not cosines");
  }
  if (loss.bias() && type != LossType::softmax) {
    yaml->AddError("loss.bias", "only softmax has one, not " + name);
  }
  if (loss.easy_margin() && type != LossType::arcface && type != LossType::combined) {
    yaml->AddError("loss.easy_margin", "is of arcface and combined, not of " + name);
  }
  if (loss.filter_threshold() > 0 && (unscaled || type == LossType::curricularface)) {
    yaml->AddError("loss.filter_threshold", "cannot be used with " + name);
  }
  if (loss.magface().norm_low() >= loss.magface().norm_high()) {
    yaml->AddError("loss.magface.norm_low", "must be below norm_high");
  }
}

void CheckValidation(const JobSpec& spec, YamlMessage* yaml) {
  std::set<std::string> names;
  int index = 0;
  for (const std::string& entry : spec.data().validation()) {
    const std::string key = fmt::format("data.validation[{}]", index++);
    if (!names.insert(VerificationSetName(entry)).second) {
      yaml->AddError(key, fmt::format("a second set named '{}'", VerificationSetName(entry)));
    }
  }
  const CheckpointSpec& checkpoint = spec.checkpoint();
  if (checkpoint.has_keep_best() && names.count(checkpoint.keep_best()) == 0) {
    yaml->AddError("checkpoint.keep_best",
                   fmt::format("'{}' is none of the sets in data.validation ({})",
                               checkpoint.keep_best(), fmt::join(names, ", ")));
  }
}

// By the names of files alone; what they hold is seen when the job starts.
void CheckTrainingSet(const fs::path& path, YamlMessage* yaml) {
  const auto fail = [&](const std::string& what) {
    yaml->AddError("data.train", fmt::format("{}: {}", path.string(), what));
  };
  std::error_code error;
  const std::optional<SetLayout> layout = FindSetLayout(path, &error);
  if (layout == SetLayout::kRecords) {
    for (const std::string_view file : kRecordSetFiles) {
      if (fs::is_regular_file(path / file, error)) continue;
      fail(fmt::format("holds no {}{}", file,
                       file == "train.idx" ? "; fr-data index makes it" : "; copy it again"));
    }
  } else if (!layout && !fs::is_directory(path, error)) {
    fail(
        "no such directory; give the one that holds train.rec, train.idx and property, or *.tar, "
        "or a folder of pictures for each identity (if only the workers see it: --remote-paths)");
  } else if (!layout) {
    fail(
        "holds no training set: train.rec, train.idx and property (fr-data pack makes them from a "
        "folder of pictures), or *.tar, or a folder of pictures for each identity");
  }
}

void CheckPaths(const JobSpec& spec, YamlMessage* yaml) {
  const DataSpec& data = spec.data();
  std::error_code error;
  if (spec.model().has_pretrained() && !fs::exists(spec.model().pretrained(), error)) {
    yaml->AddError("model.pretrained",
                   fmt::format("{}: no such file or directory; give a checkpoint directory, or a "
                               "file that fr-model import wrote",
                               spec.model().pretrained()));
  }
  if (!data.has_train()) return;
  CheckTrainingSet(data.train(), yaml);
  if (!fs::exists(data.train(), error)) return;  // the sets beside it are missing, too
  int index = 0;
  for (const std::string& entry : data.validation()) {
    const std::string key = fmt::format("data.validation[{}]", index++);
    const fs::path path = VerificationSetPath(data, entry);
    if (!fs::is_regular_file(path, error)) {
      yaml->AddError(key,
                     fmt::format("{}: no such verification set; remove it, or put the file there",
                                 path.string()));
    }
  }
}

}  // namespace

JobConfig LoadJobConfig(const std::filesystem::path& path,
                        const std::vector<std::string>& overrides, PathCheck path_check) {
  JobConfig config;
  config.yaml = ReadFile(path);
  YamlMessage yaml(config.yaml, path.string(), overrides, &config.spec);
  ResolvePaths(fs::absolute(path).parent_path(), &config.spec);
  CheckName(config.spec, &yaml);
  CheckBatch(config.spec, &yaml);
  CheckModel(config.spec, &yaml);
  CheckLoss(config.spec, &yaml);
  CheckTriplet(config.spec, &yaml);
  CheckOptimizer(config.spec, &yaml);
  CheckSchedule(config.spec, &yaml);
  CheckResources(config.spec, &yaml);
  CheckAccumulation(config.spec, &yaml);
  CheckValidation(config.spec, &yaml);
  if (path_check == PathCheck::kMustExist) CheckPaths(config.spec, &yaml);
  config.diagnostics = yaml.diagnostics();
  return config;
}

std::string FormatDiagnostics(const std::vector<Diagnostic>& diagnostics) {
  std::string text;
  for (const Diagnostic& diagnostic : diagnostics) text += FormatDiagnostic(diagnostic) + "\n";
  return text;
}

std::string VerificationSetName(const std::string& entry) {
  const fs::path path(entry);
  return path.extension() == ".bin" ? path.stem().string() : path.filename().string();
}

std::filesystem::path VerificationSetPath(const DataSpec& data, const std::string& entry) {
  if (!IsSetName(entry)) return entry;
  const fs::path train(data.train());
  return (IsTarName(train) ? train.parent_path() : train) / (entry + ".bin");
}

std::string AccumulationMistake(const JobSpec& spec, int world_size) {
  const int parts = spec.train().accumulate();
  const std::int64_t batch = TotalBatchSize(spec, world_size);
  if (batch % parts == 0 && batch / parts >= world_size) return "";
  return fmt::format("{} images a step cannot be worked through in {} equal parts by {} workers",
                     batch, parts, world_size);
}

std::int64_t TotalBatchSize(const JobSpec& spec, int world_size) {
  if (spec.data().has_total_batch_size()) return spec.data().total_batch_size();
  return static_cast<std::int64_t>(spec.data().batch_size()) * world_size;
}

}  // namespace fr
