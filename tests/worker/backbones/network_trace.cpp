// Runs one network on given weights and images, and writes down what came out: for tests that
// compare with other implementations.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <torch/torch.h>

#include "common/base/error.h"
#include "common/cli/run_command.h"
#include "common/networks/network.h"
#include "worker/backbones/run/compute_node.h"
#include "worker/backbones/run/inference_plan.h"
#include "worker/backbones/run/network_state.h"
#include "worker/backbones/run/torch_script.h"
#include "worker/backbones/run/training_plan.h"
#include "worker/checkpoint/safetensors.h"

namespace {

using Named = std::map<std::string, at::Tensor>;

struct Options {
  std::string network = "r18";
  std::int64_t embedding_size = 512;
  std::string output;
  bool squeeze_excite = false;
  std::string weights;
  std::string input;
  std::string out;
  std::string mode = "eval";
  std::string path = "plain";
  std::string precision = "fp32";
  bool recompute = false;
  bool no_randomness = false;
};

fr::NetworkOptions NetworkOf(const Options& options) {
  fr::NetworkOptions network;
  network.embedding_size = options.embedding_size;
  network.squeeze_excite = options.squeeze_excite;
  fr::ModelSpec::Output output = fr::ModelSpec::E;
  if (!fr::Network_Parse(options.network, &network.network) ||
      (!options.output.empty() && !fr::ModelSpec::Output_Parse(options.output, &output))) {
    throw fr::Error(fr::ErrorCode::kInvalidArgument, "no such network or output");
  }
  if (!options.output.empty()) network.output = output;
  return network;
}

Named ReadAll(const std::string& path) { return fr::SafetensorsFile(path).ReadAll(); }

void KeepGradients(fr::NetworkState& state, Named& out) {
  for (const auto& entry : state.trained().entries()) {
    out["gradient:" + entry.name] =
        fr::FlatParameters::View(state.trained().gradients(), entry).contiguous();
  }
}

void KeepBuffers(const fr::Graph& graph, fr::NetworkState& state, Named& out) {
  for (const fr::Parameter& parameter : graph.Parameters()) {
    if (parameter.role == fr::Parameter::Role::kRunning) {
      out["buffer:" + parameter.name] = state.Get(parameter.name);
    }
  }
}

void Train(const Options& options, const fr::Graph& graph, fr::NetworkState& state,
           const Named& input, at::ScalarType precision, Named& out) {
  const at::Tensor& images = input.at("images");
  const at::Tensor& gradients = input.at("embedding_gradients");
  if (options.path == "plain") {
    std::map<std::string, at::Tensor> drawn;
    fr::ComputeMode mode{true, !options.no_randomness, &drawn, {}};
    Named values;
    const at::Tensor embedding = fr::ComputeGraph(graph, state, images, precision, mode, &values);
    embedding.backward(gradients);
    out["embedding"] = embedding.detach();
    for (const auto& [name, value] : values) out["value:" + name] = value.detach();
  } else {
    fr::TrainingPlan plan(graph, state,
                          {precision, options.recompute, nullptr, !options.no_randomness});
    out["embedding"] = plan.Forward(images);
    plan.Backward(gradients);
  }
  KeepGradients(state, out);
  KeepBuffers(graph, state, out);
}

void Evaluate(const Options& options, const fr::Graph& graph, fr::NetworkState& state,
              const at::Tensor& images, at::ScalarType precision, Named& out) {
  const torch::NoGradGuard no_grad;
  if (options.path == "plain") {
    Named values;
    out["embedding"] = fr::ComputeGraph(graph, state, images, precision, {}, &values);
    for (const auto& [name, value] : values) out["value:" + name] = value;
  } else if (options.path == "fused") {
    fr::InferencePlan plan(graph, state, {precision, images.size(0)});
    out["embedding"] = plan.Run(images);
  } else {
    torch::jit::Module module = fr::MakeTorchScript(graph, state);
    out["embedding"] = module.forward({images}).toTensor();
  }
}

int Run(const Options& options) {
  const fr::Graph graph = fr::MakeNetwork(NetworkOf(options));
  fr::NetworkState state(graph);
  state.Load(ReadAll(options.weights), options.weights);
  const Named input = ReadAll(options.input);
  const auto precision = options.precision == "bf16" ? at::kBFloat16 : at::kFloat;
  Named out;
  if (options.mode == "train") {
    Train(options, graph, state, input, precision, out);
  } else {
    Evaluate(options, graph, state, input.at("images"), precision, out);
  }
  fr::NamedTensors named;
  for (const auto& [name, tensor] : out) named.emplace_back(name, tensor.to(at::kFloat));
  fr::WriteSafetensors(options.out, named, {});
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Runs one network on given tensors; for tests.", "network_trace");
  app.add_option("--network", options.network)->required();
  app.add_option("--embedding-size", options.embedding_size);
  app.add_option("--output", options.output);
  app.add_flag("--squeeze-excite", options.squeeze_excite);
  app.add_option("--weights", options.weights)->required();
  app.add_option("--input", options.input)->required();
  app.add_option("--out", options.out)->required();
  app.add_option("--mode", options.mode)->check(CLI::IsMember({"eval", "train"}));
  app.add_option("--path", options.path)->check(CLI::IsMember({"plain", "fused", "script"}));
  app.add_option("--precision", options.precision)->check(CLI::IsMember({"fp32", "bf16"}));
  app.add_flag("--recompute", options.recompute);
  app.add_flag("--no-randomness", options.no_randomness);
  return fr::RunCommand(app, argc, argv, [&] { return Run(options); });
}
