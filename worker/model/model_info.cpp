#include "worker/model/model_info.h"

#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "common/base/error.h"
#include "common/base/quoted.h"
#include "common/networks/network.h"

namespace fr {
namespace {

constexpr const char* kNetwork = "network";
constexpr const char* kEmbeddingSize = "embedding_size";
constexpr const char* kOutput = "output";
constexpr const char* kSqueezeExcite = "squeeze_excite";
constexpr const char* kPixelMean = "pixel_mean";
constexpr const char* kPixelStd = "pixel_std";
constexpr std::string_view kProvenance = "provenance.";

class MetadataReader {
 public:
  MetadataReader(const Metadata& metadata, const std::string& file)
      : metadata_(metadata), file_(file) {}

  const std::string& Text(const char* key) const {
    const auto found = metadata_.find(key);
    if (found == metadata_.end()) {
      throw Error(ErrorCode::kDataLoss, fmt::format("{}: its metadata has no {}", file_, key));
    }
    return found->second;
  }

  template <typename Number>
  Number Value(const char* key) const {
    const std::string& text = Text(key);
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) Refuse(key);
    return value;
  }

  [[noreturn]] void Refuse(const char* key) const {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: its metadata says {}: {}, which is none that this program knows",
                            file_, key, Quoted(Text(key))));
  }

 private:
  const Metadata& metadata_;
  const std::string& file_;
};

}  // namespace

Metadata ToMetadata(const ModelInfo& info) {
  Metadata metadata = {{kNetwork, Network_Name(info.spec.network())},
                       {kEmbeddingSize, std::to_string(info.spec.embedding_size())},
                       {kSqueezeExcite, info.spec.squeeze_excite() ? "true" : "false"},
                       {kPixelMean, fmt::format("{}", info.preprocessing.mean)},
                       {kPixelStd, fmt::format("{}", info.preprocessing.std)}};
  if (info.spec.has_output()) metadata[kOutput] = ModelSpec::Output_Name(info.spec.output());
  for (const auto& [key, value] : info.provenance) {
    metadata[ValidUtf8(fmt::format("{}{}", kProvenance, key))] = ValidUtf8(value);
  }
  return metadata;
}

bool IsModelMetadata(const Metadata& metadata) {
  return metadata.contains(kNetwork) && metadata.contains(kEmbeddingSize) &&
         metadata.contains(kPixelMean);
}

ModelInfo FromMetadata(const Metadata& metadata, const std::string& file) {
  const MetadataReader read(metadata, file);
  ModelInfo info;
  Network network{};
  if (!Network_Parse(read.Text(kNetwork), &network)) read.Refuse(kNetwork);
  info.spec.set_network(network);
  const int embedding_size = read.Value<int>(kEmbeddingSize);
  if (embedding_size < 1 || embedding_size > kMaxEmbeddingSize) read.Refuse(kEmbeddingSize);
  info.spec.set_embedding_size(embedding_size);
  if (metadata.contains(kOutput)) {
    ModelSpec::Output output{};
    if (!ModelSpec::Output_Parse(read.Text(kOutput), &output)) read.Refuse(kOutput);
    info.spec.set_output(output);
  }
  if (metadata.contains(kSqueezeExcite)) {
    const std::string& text = read.Text(kSqueezeExcite);
    if (text != "true" && text != "false") read.Refuse(kSqueezeExcite);
    info.spec.set_squeeze_excite(text == "true");
  }
  info.preprocessing.mean = read.Value<double>(kPixelMean);
  info.preprocessing.std = read.Value<double>(kPixelStd);
  if (!std::isfinite(info.preprocessing.mean)) read.Refuse(kPixelMean);
  if (!std::isfinite(info.preprocessing.std) || info.preprocessing.std <= 0) read.Refuse(kPixelStd);
  for (const auto& [key, value] : metadata) {
    if (key.starts_with(kProvenance)) info.provenance[key.substr(kProvenance.size())] = value;
  }
  return info;
}

std::string ValidUtf8(const std::string& text) {
  using Json = nlohmann::json;
  return Json::parse(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace))
      .get<std::string>();
}

Graph GraphOf(const ModelSpec& spec) {
  NetworkOptions options = OptionsOf(spec);
  options.dropout = 0;
  return MakeNetwork(options);
}

std::string DescribeSpec(const ModelSpec& spec) {
  std::string text = Network_Name(spec.network());
  if (spec.has_output()) text += ", output " + ModelSpec::Output_Name(spec.output());
  if (spec.squeeze_excite()) text += ", squeeze and excitation";
  return fmt::format("{}, {} values", text, spec.embedding_size());
}

}  // namespace fr
