#pragma once
// The networks, by name.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/networks/graph.h"
#include "proto/job.pb.h"

namespace fr {

struct NetworkOptions {
  Network network = Network::r50;
  std::int64_t embedding_size = 512;
  double dropout = 0;  // before the last layer, output E
  std::optional<ModelSpec::Output>
      output;                   // none: the network's own; families are always given one
  bool squeeze_excite = false;  // r18 to r200
};

// From aligned faces [3, 112, 112], (x - 127.5) / 127.5, to embeddings [embedding_size], not
// normalised. Parameters carry the names of InsightFace's arcface_torch, else of timm or
// torchvision (m1: of InsightFace's fmobilenet.py). Throws Error(kInvalidArgument) for options that
// the network does not have.
Graph MakeNetwork(const NetworkOptions& options);

NetworkOptions OptionsOf(const ModelSpec& spec);

}  // namespace fr
