#include "worker/model/find_network.h"

#include <algorithm>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/base/error.h"
#include "common/base/quoted.h"
#include "common/networks/network.h"
#include "worker/model/model_info.h"

namespace fr {
namespace {

using Shape = std::vector<std::int64_t>;
using Shapes = std::map<std::string, Shape>;

constexpr std::size_t kShownCandidates = 3;

std::vector<Network> Networks(const NetworkHints& hints) {
  if (hints.network) return {*hints.network};
  std::vector<Network> networks;
  networks.reserve(static_cast<std::size_t>(Network_descriptor()->value_count()));
  for (int i = 0; i < Network_descriptor()->value_count(); ++i) {
    networks.push_back(static_cast<Network>(Network_descriptor()->value(i)->number()));
  }
  return networks;
}

std::vector<std::optional<ModelSpec::Output>> Outputs(const NetworkHints& hints) {
  if (hints.output) return {hints.output};
  return {std::nullopt, ModelSpec::E, ModelSpec::GAP, ModelSpec::FC, ModelSpec::GDC};
}

std::vector<bool> SqueezeExcites(const NetworkHints& hints) {
  if (hints.squeeze_excite) return {*hints.squeeze_excite};
  return {false, true};
}

Shapes ShapesOf(const Graph& graph) {
  Shapes shapes;
  for (const Parameter& parameter : graph.Parameters()) shapes[parameter.name] = parameter.shape;
  return shapes;
}

// The length of the vector that the last batch norm scales, if it is there.
std::optional<std::int64_t> EmbeddingSizeIn(const Graph& graph, const Shapes& shapes) {
  const auto found = shapes.find(graph.nodes().back().weight().name);
  if (found == shapes.end() || found->second.size() != 1) return std::nullopt;
  const std::int64_t size = found->second[0];
  if (size < 1 || size > kMaxEmbeddingSize) return std::nullopt;
  return size;
}

bool IsCounter(const Parameter& parameter) { return parameter.role == Parameter::Role::kCounter; }

// Tensors that both have, less those that only one has.
std::int64_t Likeness(const Graph& graph, const Shapes& shapes) {
  std::int64_t both = 0;
  std::int64_t ours = 0;
  for (const Parameter& parameter : graph.Parameters()) {
    if (IsCounter(parameter)) continue;
    ++ours;
    const auto found = shapes.find(parameter.name);
    both += found != shapes.end() && found->second == parameter.shape ? 1 : 0;
  }
  return 3 * both - ours - static_cast<std::int64_t>(shapes.size());
}

}  // namespace

std::vector<ModelSpec> CandidateNetworks(const NetworkHints& hints) {
  std::vector<ModelSpec> candidates;
  for (const Network network : Networks(hints)) {
    std::set<Shapes> seen;
    std::string refusal;
    for (const bool squeeze_excite : SqueezeExcites(hints)) {
      for (const auto& output : Outputs(hints)) {
        ModelSpec spec;
        spec.set_network(network);
        if (output) spec.set_output(*output);
        spec.set_squeeze_excite(squeeze_excite);
        if (hints.embedding_size) {
          spec.set_embedding_size(static_cast<std::int32_t>(*hints.embedding_size));
        }
        try {
          if (seen.insert(ShapesOf(GraphOf(spec))).second) candidates.push_back(std::move(spec));
        } catch (const Error& error) {
          refusal = error.what();  // this network has no such output
        }
      }
    }
    if (seen.empty() && hints.network) throw Error(ErrorCode::kInvalidArgument, refusal);
  }
  return candidates;
}

std::optional<std::string> FirstDifference(const Graph& graph, const Shapes& shapes) {
  Shapes rest = shapes;
  for (const Parameter& parameter : graph.Parameters()) {
    const auto found = rest.find(parameter.name);
    if (found == rest.end()) {
      if (IsCounter(parameter)) continue;
      return fmt::format("has no '{}'", parameter.name);
    }
    // A counter may be a scalar or one value.
    const bool counter = IsCounter(parameter) && CountElements(found->second) == 1;
    if (found->second != parameter.shape && !counter) {
      return fmt::format("'{}' is {}, not {}", parameter.name, ShapeText(found->second),
                         ShapeText(parameter.shape));
    }
    rest.erase(found);
  }
  if (rest.empty()) return std::nullopt;
  return fmt::format("{} has no place in it", Quoted(rest.begin()->first));
}

ModelSpec FindNetworkByTensors(const Shapes& shapes, const NetworkHints& hints,
                               const std::string& what) {
  struct Miss {
    std::int64_t likeness = 0;
    std::string text;
  };
  std::vector<ModelSpec> fits;
  std::vector<Miss> misses;
  for (ModelSpec& spec : CandidateNetworks(hints)) {
    if (!hints.embedding_size) {
      const auto size = EmbeddingSizeIn(GraphOf(spec), shapes);
      if (size) spec.set_embedding_size(static_cast<std::int32_t>(*size));
    }
    const Graph graph = GraphOf(spec);
    if (const auto difference = FirstDifference(graph, shapes)) {
      misses.push_back(
          {Likeness(graph, shapes), fmt::format("  {}: {}", DescribeSpec(spec), *difference)});
    } else {
      fits.push_back(spec);
    }
  }
  if (fits.size() == 1) return fits[0];
  if (fits.size() > 1) {
    std::vector<std::string> names;
    names.reserve(fits.size());
    for (const ModelSpec& spec : fits) names.push_back(DescribeSpec(spec));
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: its tensors fit several networks: {}; choose with --network and "
                            "--output",
                            what, fmt::join(names, "; ")));
  }
  std::stable_sort(misses.begin(), misses.end(),
                   [](const Miss& a, const Miss& b) { return a.likeness > b.likeness; });
  std::string text = fmt::format("{}: its {} tensors are those of no network that is known here",
                                 what, shapes.size());
  if (!misses.empty()) text += "; closest:";
  for (std::size_t i = 0; i < std::min(misses.size(), kShownCandidates); ++i) {
    text += "\n" + misses[i].text;
  }
  throw Error(ErrorCode::kInvalidArgument, text);
}

}  // namespace fr
