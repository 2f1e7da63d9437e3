// fr-model: examines, runs, imports and exports trained networks.

#include <functional>
#include <map>
#include <string>

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "common/cli/run_command.h"
#include "common/config/scalar.h"
#include "worker/cli/model_commands.h"

namespace {

// One subcommand's work, and what its options fill in.
using Chosen = std::function<int()>;

template <typename Options>
CLI::App* AddCommand(CLI::App& app, const char* name, const char* help, Chosen* chosen,
                     int (*run)(const Options&), std::shared_ptr<Options> options) {
  CLI::App* command = app.add_subcommand(name, help);
  command->callback([chosen, run, options] { *chosen = [run, options] { return run(*options); }; });
  return command;
}

// `flag` sets the field `key` of `spec`, as the same text in a job file would.
void AddSpecOption(CLI::App* command, const std::string& flag, const std::string& key,
                   fr::ModelSpec* spec) {
  const auto* field = fr::ModelSpec::descriptor()->FindFieldByName(key);
  const auto set = [flag, field, spec](const std::string& text) {
    if (const auto wrong = fr::SetScalar(text, /*quoted=*/false, *field, spec)) {
      throw CLI::ValidationError(flag, *wrong);
    }
  };
  command->add_option_function<std::string>(flag, set, fr::ExpectedScalar(*field));
}

void AddSpec(CLI::App* command, fr::ModelSpec* spec) {
  AddSpecOption(command, "--network", "network", spec);
  AddSpecOption(command, "--embedding-size", "embedding_size", spec);
  AddSpecOption(command, "--output", "output", spec);
  command->add_flag_callback(
      "--squeeze-excite", [spec] { spec->set_squeeze_excite(true); },
      "With squeeze and excitation in every block");
}

void AddModel(CLI::App* command, std::string* model) {
  command
      ->add_option("MODEL", *model,
                   "A model that fr-model made, a checkpoint or run directory, or anything that "
                   "fr-model import takes")
      ->required();
}

void AddOutput(CLI::App* command, fr::ModelOutput* output) {
  static const std::map<std::string, fr::ModelOutput> kKnown = {{"table", fr::ModelOutput::kTable},
                                                                {"json", fr::ModelOutput::kJson}};
  command->add_option("-o,--format", *output, "table or json")
      ->transform(CLI::CheckedTransformer(kKnown))
      ->default_str("table");
}

template <typename Options>
void AddRunning(CLI::App* command, Options* options) {
  static const std::map<std::string, fr::Precision> kKnown = {{"fp32", fr::Precision::fp32},
                                                              {"bf16", fr::Precision::bf16}};
  command
      ->add_option("--precision", options->precision, "Of products and activations: fp32 or bf16")
      ->transform(CLI::CheckedTransformer(kKnown))
      ->default_str("fp32");
  command->add_option("--threads", options->threads, "Computing threads; all without it")
      ->check(CLI::Range(1, 1024));
  command->add_option("--batch", options->batch, "Images at a time")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
}

void AddImport(CLI::App& app, Chosen* chosen) {
  auto options = std::make_shared<fr::ImportCommand>();
  auto* command = AddCommand(app, "import", "Make a model of what PyTorch, MXNet or ONNX hold",
                             chosen, fr::RunImport, options);
  command
      ->add_option(
          "SOURCE", options->source,
          "State dict (.pt, .pth, .safetensors), .onnx, or MXNet's PREFIX, PREFIX,EPOCH or "
          "PREFIX-symbol.json")
      ->required();
  command->add_option("OUT", options->out, "The model: OUT.safetensors")->required();
  AddSpec(command, &options->spec);
  command->add_option("--params", options->params,
                      "MXNet: the parameters, if not beside the symbol");
  command->add_option("--pixel-mean", options->pixel_mean, "The network expects (x - MEAN) / STD");
  command->add_option("--pixel-std", options->pixel_std, "The network expects (x - MEAN) / STD")
      ->check(CLI::PositiveNumber);
}

void AddExport(CLI::App& app, Chosen* chosen) {
  auto options = std::make_shared<fr::ExportCommand>();
  auto* command =
      AddCommand(app, "export", "Write a model for other programs", chosen, fr::RunExport, options);
  AddModel(command, &options->model);
  command->add_option("OUT", options->out, "OUT.onnx, OUT.pt (TorchScript) or OUT.safetensors")
      ->required();
  command
      ->add_option("--format", options->format,
                   "onnx, torchscript or safetensors; without it, "
                   "what the extension of OUT says")
      ->check(CLI::IsMember({"onnx", "torchscript", "safetensors"}));
  command->add_flag("!--no-fold", options->fold,
                    "ONNX: keep batch norms as they are, and every tensor's name");
}

void AddInfo(CLI::App& app, Chosen* chosen) {
  auto options = std::make_shared<fr::InfoCommand>();
  auto* command =
      AddCommand(app, "info", "Tell what a model or a network is", chosen, fr::RunInfo, options);
  AddModel(command, &options->model);
  auto* model = command->get_option("MODEL")->required(false);
  AddSpec(command, &options->spec);
  command->get_option("--network")->excludes(model);
  for (const char* const flag : {"--embedding-size", "--output", "--squeeze-excite"}) {
    command->get_option(flag)->needs("--network");
  }
  command->add_flag_callback(
      "--json", [options] { options->output = fr::ModelOutput::kJson; }, "As JSON");
  command->add_flag("--layers", options->layers, "Every layer: shape, parameters, multiply-adds");
  command->parse_complete_callback([command, model] {
    if (model->empty() && command->get_option("--network")->empty()) {
      throw CLI::RequiredError("MODEL, or --network NAME,");
    }
  });
}

void AddVerify(CLI::App& app, Chosen* chosen) {
  auto options = std::make_shared<fr::VerifyCommand>();
  auto* command = AddCommand(app, "verify", "Accuracy on verification sets, by the protocol of LFW",
                             chosen, fr::RunVerify, options);
  AddModel(command, &options->model);
  command->add_option("SET", options->sets, "lfw.bin, cfp_fp.bin, ...")->required();
  AddRunning(command, options.get());
  AddOutput(command, &options->output);
}

void AddEmbed(CLI::App& app, Chosen* chosen) {
  auto options = std::make_shared<fr::EmbedCommand>();
  auto* command = AddCommand(app, "embed", "Embeddings of aligned faces, 112 x 112 pixels", chosen,
                             fr::RunEmbed, options);
  AddModel(command, &options->model);
  command->add_option("IMAGE", options->pictures, "Pictures, and folders of them")->required();
  AddRunning(command, options.get());
  command
      ->add_option_function<std::string>(
          "-o,--format", [options](const std::string& text) { options->npy = text == "npy"; },
          "json: a line {file, embedding} for each picture; npy: one array, a row for each")
      ->check(CLI::IsMember({"json", "npy"}))
      ->default_str("json");
  command->add_option("--out", options->out, "Where to; standard output without it");
  command->add_flag("!--raw", options->normalise, "Do not scale embeddings to length 1");
  command->add_flag("!--no-mirror", options->mirror,
                    "Of the picture alone, not the mean of its and its mirror image's");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Examines, runs, imports and exports trained networks.", "fr-model");
  app.require_subcommand(1);
  Chosen chosen;
  AddInfo(app, &chosen);
  AddVerify(app, &chosen);
  AddEmbed(app, &chosen);
  AddImport(app, &chosen);
  AddExport(app, &chosen);
  return fr::RunCommand(app, argc, argv, [&chosen] { return chosen(); });
}
