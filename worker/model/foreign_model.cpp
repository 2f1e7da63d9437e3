#include "worker/model/foreign_model.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/networks/graph.h"
#include "worker/model/model_info.h"
#include "worker/model/onnx_export.h"
#include "worker/weights/foreign_graph.h"
#include "worker/weights/match.h"
#include "worker/weights/mxnet_file.h"
#include "worker/weights/onnx_file.h"

namespace fr {
namespace {

constexpr std::size_t kShownCandidates = 3;

// How many layers have weights of so many values.
using LayerSizes = std::map<std::int64_t, std::int64_t>;

LayerSizes SizesOf(const ForeignGraph& graph) {
  LayerSizes sizes;
  for (const ForeignNode& node : graph.nodes) {
    if (node.op != ForeignOp::kConv && node.op != ForeignOp::kLinear) continue;
    if (const HostTensor* weight = node.tensor("weight")) ++sizes[weight->numel()];
  }
  return sizes;
}

LayerSizes SizesOf(const Graph& graph) {
  LayerSizes sizes;
  for (const Node& node : graph.nodes()) {
    if (node.op == Op::kConv || node.op == Op::kLinear) ++sizes[node.weight().numel()];
  }
  return sizes;
}

// Layers that both have, less those that only one has.
std::int64_t Likeness(const LayerSizes& ours, const LayerSizes& theirs) {
  std::int64_t likeness = 0;
  for (const auto& [size, count] : ours) {
    const auto found = theirs.find(size);
    const std::int64_t other = found == theirs.end() ? 0 : found->second;
    likeness += 3 * std::min(count, other) - count;
  }
  for (const auto& item : theirs) likeness -= item.second;
  return likeness;
}

// Values of the output: those of the nearest node before it that has a vector.
std::optional<std::int64_t> EmbeddingSizeOf(const ForeignGraph& graph) {
  for (int at = graph.output; at >= 0;) {
    const ForeignNode& node = graph.node(at);
    if (const HostTensor* weight = node.tensor("weight")) {
      if (weight->shape.empty()) return std::nullopt;
      const std::int64_t size = weight->shape[0];
      if (size < 1 || size > kMaxEmbeddingSize) return std::nullopt;
      return size;
    }
    if (node.inputs.size() != 1) return std::nullopt;
    at = node.inputs[0];
  }
  return std::nullopt;
}

struct Candidate {
  ModelSpec spec;
  std::int64_t likeness = 0;
};

ForeignModel MatchAny(const ForeignGraph& graph, NetworkHints hints, const std::string& what) {
  const LayerSizes sizes = SizesOf(graph);
  if (!hints.embedding_size) hints.embedding_size = EmbeddingSizeOf(graph);
  std::vector<Candidate> candidates;
  for (const ModelSpec& spec : CandidateNetworks(hints)) {
    candidates.push_back({spec, Likeness(SizesOf(GraphOf(spec)), sizes)});
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.likeness > b.likeness; });
  std::string misses;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const ModelSpec& spec = candidates[i].spec;
    try {
      ForeignModel model;
      model.tensors = MatchForeignGraph(GraphOf(spec), graph);
      model.spec = spec;
      model.preprocessing = graph.preprocessing;
      return model;
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kInvalidArgument) throw;
      if (i < kShownCandidates)
        misses += fmt::format("\n  {}: {}", DescribeSpec(spec), error.what());
    }
  }
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{}: computes what no network does that is known here; closest:{}", what,
                          misses));
}

// The tensors under our names, if the file is ours and has kept them; else nothing.
std::optional<ForeignModel> TakeByName(const OnnxModel& onnx, const std::string& what) {
  const auto kept = onnx.metadata.find(kOnnxBatchNorms);
  if (kept == onnx.metadata.end() || kept->second != kOnnxBatchNormsKept ||
      !IsModelMetadata(onnx.metadata)) {
    return std::nullopt;
  }
  const ModelInfo info = FromMetadata(onnx.metadata, what);
  ForeignModel model;
  model.spec = info.spec;
  model.preprocessing = info.preprocessing;
  const Graph graph = GraphOf(info.spec);
  for (const Node& node : graph.nodes()) {
    for (const Parameter& parameter : node.parameters) {
      if (parameter.role == Parameter::Role::kCounter) continue;
      const HostTensor* tensor = onnx.initializers.Find(parameter.name);
      if (node.op == Op::kRestoreTokens) {  // not a part of what is computed
        model.tensors[parameter.name] = HostTensor::FromFloats(
            parameter.shape, std::vector<float>(static_cast<std::size_t>(parameter.numel()), 0.0F));
      } else if (tensor == nullptr || tensor->numel() != parameter.numel()) {
        return std::nullopt;
      } else {
        model.tensors[parameter.name] = tensor->ToFloat32().Reshaped(parameter.shape);
      }
    }
  }
  return model;
}

bool Fits(const ModelSpec& spec, const NetworkHints& hints) {
  return (!hints.network || *hints.network == spec.network()) &&
         (!hints.embedding_size || *hints.embedding_size == spec.embedding_size()) &&
         (!hints.squeeze_excite || *hints.squeeze_excite == spec.squeeze_excite()) &&
         (!hints.output || (spec.has_output() && *hints.output == spec.output()));
}

}  // namespace

ForeignModel ReadMxnetModel(const std::filesystem::path& symbol,
                            const std::filesystem::path& params, const NetworkHints& hints) {
  const MxnetSymbol read = ReadMxnetSymbol(symbol);
  return MatchAny(FromMxnet(read, ReadMxnetParams(params)), hints, symbol.string());
}

ForeignModel ReadOnnxModel(const std::filesystem::path& path, const NetworkHints& hints) {
  const OnnxModel onnx = ReadOnnx(path);
  std::optional<ForeignModel> model = TakeByName(onnx, path.string());
  if (!model || !Fits(model->spec, hints)) model = MatchAny(FromOnnx(onnx), hints, path.string());
  model->metadata = onnx.metadata;
  return std::move(*model);
}

}  // namespace fr
