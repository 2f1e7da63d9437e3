#pragma once
// What a model is, beside its tensors.

#include <map>
#include <string>

#include "common/networks/graph.h"
#include "common/networks/preprocessing.h"
#include "proto/job.pb.h"

namespace fr {

inline constexpr int kMaxEmbeddingSize = 8192;  // as in the job file

using Metadata = std::map<std::string, std::string>;

struct ModelInfo {
  // Of a model that is not being trained only these count: network, embedding_size, output,
  // squeeze_excite.
  ModelSpec spec;
  Preprocessing preprocessing;
  Metadata provenance;  // where it comes from: "source", "format", "step", ... for people to read
};

// Keys network, embedding_size, output, squeeze_excite, pixel_mean, pixel_std, and provenance.* for
// each of `provenance`. Numbers read back as they were; text becomes valid UTF-8.
Metadata ToMetadata(const ModelInfo& info);

// Whether ToMetadata wrote it.
bool IsModelMetadata(const Metadata& metadata);

// What ToMetadata wrote; other keys are passed over. Throws Error(kDataLoss) for values that make
// no sense, naming `file` and the key.
ModelInfo FromMetadata(const Metadata& metadata, const std::string& file);

// With U+FFFD for bytes that are no UTF-8, which file names may have and metadata may not.
std::string ValidUtf8(const std::string& text);

// The network's graph, without dropout.
Graph GraphOf(const ModelSpec& spec);

// "r50, output GAP, squeeze and excitation, 512 values"
std::string DescribeSpec(const ModelSpec& spec);

}  // namespace fr
