#include "worker/cli/model_commands.h"

#include <cstdio>
#include <filesystem>
#include <utility>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "common/base/error.h"
#include "common/cli/run_command.h"
#include "common/cli/table.h"
#include "common/cli/text.h"
#include "common/networks/costs.h"
#include "worker/model/export.h"
#include "worker/model/import.h"
#include "worker/weights/host_tensor.h"

namespace fr {
namespace {

using Json = nlohmann::ordered_json;

NetworkHints HintsOf(const ModelSpec& spec) {
  NetworkHints hints;
  if (spec.has_network()) hints.network = spec.network();
  if (spec.has_embedding_size()) hints.embedding_size = spec.embedding_size();
  if (spec.has_output()) hints.output = spec.output();
  if (spec.has_squeeze_excite()) hints.squeeze_excite = spec.squeeze_excite();
  return hints;
}

// Found out before minutes of work, not after.
void CheckDirectoryOf(const std::string& out) {
  const std::filesystem::path directory = std::filesystem::absolute(out).parent_path();
  if (std::filesystem::is_directory(directory)) return;
  throw Error(ErrorCode::kNotFound,
              fmt::format("{}: no such directory; make it first", directory.string()));
}

std::string PreprocessingText(const Preprocessing& preprocessing) {
  return fmt::format("(x - {}) / {}, RGB, x from 0 to 255", preprocessing.mean, preprocessing.std);
}

void PrintRow(const std::string& title, const std::string& text) {
  fmt::print("{:<16} {}\n", title, OneLine(text));
}

// "43.6 million"
std::string LargeText(std::int64_t value) {
  constexpr double kMillion = 1e6;
  constexpr double kBillion = 1e9;
  const auto number = static_cast<double>(value);
  if (number >= kBillion) return fmt::format("{:.2f} billion", number / kBillion);
  return fmt::format("{:.2f} million", number / kMillion);
}

void PrintSummary(const ModelInfo& info, const Graph& graph) {
  const Costs costs = CostsOf(graph);
  PrintRow("network", Network_Name(info.spec.network()));
  if (info.spec.has_output()) PrintRow("output", ModelSpec::Output_Name(info.spec.output()));
  if (info.spec.squeeze_excite()) PrintRow("squeeze_excite", "in every block");
  PrintRow("embedding_size", std::to_string(info.spec.embedding_size()));
  PrintRow("parameters",
           fmt::format("{} ({})", LargeText(costs.parameters), CountText(costs.parameters)));
  PrintRow("multiply-adds", fmt::format("{} for an image", LargeText(costs.multiply_adds)));
  PrintRow("activations", fmt::format("{} for an image", LargeText(costs.activations)));
  PrintRow("preprocessing", PreprocessingText(info.preprocessing));
  for (const auto& [key, value] : info.provenance) PrintRow(key, value);
}

void PrintLayers(const Graph& graph) {
  const Costs costs = CostsOf(graph);
  std::vector<std::vector<std::string>> rows;
  for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
    const Node& node = graph.nodes()[i];
    const Costs::OfNode& own = costs.nodes[i];
    rows.push_back({node.name, OpName(node.op), ShapeText(node.shape), CountText(own.parameters),
                    CountText(own.multiply_adds)});
  }
  fmt::print("\n{}", FormatTable({{"LAYER", Align::kLeft},
                                  {"KIND", Align::kLeft},
                                  {"RESULT", Align::kLeft},
                                  {"PARAMETERS", Align::kRight},
                                  {"MULTIPLY-ADDS", Align::kRight}},
                                 rows));
}

Json LayersJson(const Graph& graph, const Costs& costs) {
  Json layers = Json::array();
  for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
    const Node& node = graph.nodes()[i];
    layers.push_back({{"name", node.name},
                      {"kind", OpName(node.op)},
                      {"result", node.shape},
                      {"parameters", costs.nodes[i].parameters},
                      {"multiply_adds", costs.nodes[i].multiply_adds},
                      {"activations", costs.nodes[i].activations}});
  }
  return layers;
}

Json InfoJson(const ModelInfo& info, const Graph& graph, bool layers) {
  const Costs costs = CostsOf(graph);
  Json json = {
      {"network", Network_Name(info.spec.network())},
      {"output", nullptr},
      {"squeeze_excite", info.spec.squeeze_excite()},
      {"embedding_size", info.spec.embedding_size()},
      {"parameters", costs.parameters},
      {"trained_parameters", costs.trained_parameters},
      {"multiply_adds", costs.multiply_adds},
      {"activations", costs.activations},
      {"preprocessing", {{"mean", info.preprocessing.mean}, {"std", info.preprocessing.std}}},
      {"provenance", info.provenance}};
  if (info.spec.has_output()) json["output"] = ModelSpec::Output_Name(info.spec.output());
  if (layers) json["layers"] = LayersJson(graph, costs);
  return json;
}

void PrintInfo(const ModelInfo& info, const Graph& graph, const InfoCommand& command) {
  if (command.output == ModelOutput::kJson) {
    const Json json = InfoJson(info, graph, command.layers);
    fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
    return;
  }
  PrintSummary(info, graph);
  if (command.layers) PrintLayers(graph);
}

ExportFormat ChooseFormat(const ExportCommand& command) {
  if (command.format == "safetensors") return ExportFormat::kSafetensors;
  if (command.format == "torchscript") return ExportFormat::kTorchScript;
  if (command.format == "onnx") return ExportFormat::kOnnx;
  if (const auto format = FormatOf(command.out)) return *format;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{}: its extension says no format: .onnx, .pt (TorchScript) and "
                          ".safetensors do, or --format",
                          command.out));
}

}  // namespace

int RunImport(const ImportCommand& command) {
  if (FormatOf(command.out) != ExportFormat::kSafetensors) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: models are kept in .safetensors files: name it so", command.out));
  }
  CheckDirectoryOf(command.out);
  ImportOptions options;
  options.hints = HintsOf(command.spec);
  options.params = command.params;
  options.pixel_mean = command.pixel_mean;
  options.pixel_std = command.pixel_std;
  const std::unique_ptr<Model> model = ImportModel(command.source, options);
  SaveModel(*model, command.out);
  PrintSummary(model->info(), model->graph());
  return kExitDone;
}

int RunExport(const ExportCommand& command) {
  const ExportFormat format = ChooseFormat(command);
  CheckDirectoryOf(command.out);
  const std::unique_ptr<Model> model = OpenModel(command.model);
  ExportModel(*model, command.out, format, command.fold);
  return kExitDone;
}

int RunInfo(const InfoCommand& command) {
  if (command.model.empty()) {
    ModelInfo info;
    info.spec = command.spec;
    PrintInfo(info, GraphOf(info.spec), command);
    return kExitDone;
  }
  const std::unique_ptr<Model> model = OpenModel(command.model);
  PrintInfo(model->info(), model->graph(), command);
  return kExitDone;
}

}  // namespace fr
