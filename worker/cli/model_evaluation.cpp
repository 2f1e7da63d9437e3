// Subcommands that run a model: verify and embed.

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/file.h"
#include "common/cli/run_command.h"
#include "common/cli/table.h"
#include "common/cli/text.h"
#include "worker/cli/model_commands.h"
#include "worker/data/verification/verification_set.h"
#include "worker/eval/verifier.h"
#include "worker/model/embed.h"
#include "worker/model/import.h"
#include "worker/model/npy.h"

namespace fr {
namespace {

using Json = nlohmann::ordered_json;

// How far a long piece of work is, on standard error: one line that changes on a terminal, a line
// every few seconds elsewhere.
class ProgressLine {
 public:
  ProgressLine(std::string what, std::int64_t total) : what_(std::move(what)), total_(total) {}
  ~ProgressLine() {
    if (shown_ && terminal_) fmt::print(stderr, "\n");
  }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  void Show(std::int64_t done) {
    const std::int64_t now = SteadyMillis();
    const std::int64_t pause_ms = terminal_ ? 200 : 5000;
    if (done < total_ && now - last_ms_ < pause_ms) return;
    if (done == total_ && !shown_ && !terminal_) return;  // was quick
    last_ms_ = now;
    shown_ = true;
    fmt::print(stderr, "{}{} {}/{} images{}", terminal_ ? "\r" : "", what_, CountText(done),
               CountText(total_), terminal_ ? "" : "\n");
    std::fflush(stderr);
  }

 private:
  std::string what_;
  std::int64_t total_ = 0;
  std::int64_t last_ms_ = SteadyMillis();
  bool shown_ = false;
  bool terminal_ = isatty(STDERR_FILENO) == 1;
};

void UseThreads(int threads) {
  if (threads > 0) at::set_num_threads(threads);
}

struct Verified {
  ValidationResult result;
  double seconds = 0;
};

Verified VerifySet(const EmbedFunction& embed, const VerificationSet& set, int batch) {
  const std::string name = set.path().stem().string();
  const std::int64_t started_ms = SteadyMillis();
  ProgressLine progress(name, set.num_images());
  std::vector<at::Tensor> parts;
  for (std::int64_t begin = 0; begin < set.num_images(); begin += batch) {
    const std::int64_t end = std::min<std::int64_t>(begin + batch, set.num_images());
    parts.push_back(EmbedWithMirror(embed, set, begin, end, batch));
    progress.Show(end);
  }
  const at::Tensor embeddings = at::cat(parts);
  if (!embeddings.isfinite().all().item<bool>()) {
    throw Error(
        ErrorCode::kDataLoss,
        fmt::format("{}: some of its embeddings are no numbers: the model is damaged, or its "
                    "training diverged",
                    set.path().string()));
  }
  Verified verified;
  verified.result = EvaluateEmbeddings(embeddings, set, name, /*step=*/0);
  verified.seconds = static_cast<double>(SteadyMillis() - started_ms) / 1000;
  return verified;
}

void PrintTable(const std::vector<Verified>& all) {
  std::vector<std::vector<std::string>> rows;
  for (const Verified& verified : all) {
    const ValidationResult& r = verified.result;
    const double images = 2 * static_cast<double>(r.num_pairs());
    rows.push_back({r.set(), CountText(r.num_pairs()), PercentText(r.accuracy()),
                    PercentText(r.accuracy_std()), fmt::format("{:.3f}", r.threshold()),
                    fmt::format("{:.5f}", r.auc()), PercentText(r.eer()),
                    PercentText(r.tar_at_far_1e3()), fmt::format("{:.2f}", r.embedding_norm()),
                    DurationText(verified.seconds), RateText(images / verified.seconds)});
  }
  constexpr Align kRight = Align::kRight;
  fmt::print("{}", FormatTable({{"SET", Align::kLeft},
                                {"PAIRS", kRight},
                                {"ACCURACY", kRight},
                                {"STD", kRight},
                                {"THRESHOLD", kRight},
                                {"AUC", kRight},
                                {"EER", kRight},
                                {"TAR@FAR=1e-3", kRight},
                                {"NORM", kRight},
                                {"TIME", kRight},
                                {"IMAGES/S", kRight}},
                               rows));
}

void PrintJson(const VerifyCommand& command, const ModelInfo& info,
               const std::vector<Verified>& all) {
  Json json = {{"model", command.model},
               {"network", Network_Name(info.spec.network())},
               {"precision", Precision_Name(command.precision)},
               {"sets", Json::array()}};
  for (const Verified& verified : all) {
    const ValidationResult& r = verified.result;
    json["sets"].push_back({{"set", r.set()},
                            {"pairs", r.num_pairs()},
                            {"accuracy", r.accuracy()},
                            {"accuracy_std", r.accuracy_std()},
                            {"threshold", r.threshold()},
                            {"auc", r.auc()},
                            {"eer", r.eer()},
                            {"tar_at_far_1e-3", r.tar_at_far_1e3()},
                            {"embedding_norm", r.embedding_norm()},
                            {"seconds", verified.seconds}});
  }
  fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
}

// One JSON object a picture; numbers are as short as reads back the same float32.
std::string ToJsonLines(const std::vector<std::string>& files, const at::Tensor& embeddings) {
  std::string lines;
  const auto columns = static_cast<std::size_t>(embeddings.size(1));
  const auto* row = embeddings.const_data_ptr<float>();
  for (const std::string& file : files) {
    lines += fmt::format("{{\"file\": {}, \"embedding\": [{}]}}\n",
                         Json(file).dump(-1, ' ', false, Json::error_handler_t::replace),
                         fmt::join(std::span<const float>(row, columns), ", "));
    row += columns;
  }
  return lines;
}

std::string NpyOf(const at::Tensor& embeddings) {
  const std::span<const float> values(embeddings.const_data_ptr<float>(),
                                      static_cast<std::size_t>(embeddings.numel()));
  return fr::ToNpy(values, embeddings.size(0), embeddings.size(1));
}

void WriteResult(const EmbedCommand& command, const std::string& bytes) {
  if (!command.out.empty()) return WriteFileAtomically(command.out, bytes);
  if (std::fwrite(bytes.data(), 1, bytes.size(), stdout) != bytes.size() ||
      std::fflush(stdout) != 0) {
    throw Error(ErrorCode::kIo, fmt::format("standard output: cannot write: {}", ErrnoText()));
  }
}

}  // namespace

int RunVerify(const VerifyCommand& command) {
  UseThreads(command.threads);
  std::vector<VerificationSet> sets;  // all are opened first: a mistake is found at once
  for (const std::string& path : command.sets) sets.push_back(VerificationSet::Open(path));
  const std::unique_ptr<Model> model = OpenModel(command.model);
  const EmbedFunction embed =
      MakeEmbedFunction(*model, {ScalarTypeOf(command.precision), command.batch});
  std::vector<Verified> all;
  for (const VerificationSet& set : sets) all.push_back(VerifySet(embed, set, command.batch));
  if (command.output == ModelOutput::kJson) {
    PrintJson(command, model->info(), all);
  } else {
    PrintTable(all);
  }
  return kExitDone;
}

int RunEmbed(const EmbedCommand& command) {
  UseThreads(command.threads);
  if (command.npy && command.out.empty() && isatty(STDOUT_FILENO) == 1) {
    throw Error(ErrorCode::kInvalidArgument,
                "-o npy: a terminal cannot show it: name a file with --out");
  }
  const std::vector<std::string> files = ExpandPictures(command.pictures);
  const std::unique_ptr<Model> model = OpenModel(command.model);
  ProgressLine progress("embed", static_cast<std::int64_t>(files.size()));
  PictureOptions options;
  options.batch = command.batch;
  options.mirror = command.mirror;
  options.normalise = command.normalise;
  options.progress = [&progress](std::size_t done) {
    progress.Show(static_cast<std::int64_t>(done));
  };
  const at::Tensor embeddings =
      EmbedPictures(MakeEmbedFunction(*model, {ScalarTypeOf(command.precision), command.batch}),
                    files, options)
          .contiguous();
  WriteResult(command, command.npy ? NpyOf(embeddings) : ToJsonLines(files, embeddings));
  return kExitDone;
}

}  // namespace fr
