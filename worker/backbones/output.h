#pragma once
// From the last feature map to the embedding: the ways that InsightFace knows.

#include <cstdint>

#include "proto/job.pb.h"
#include "worker/backbones/graph.h"

namespace fr {

// Adds to `x` [c, h, w] the layers bn2, fc and features (GDC: gdc, gdc_bn, fc, features), by
// arcface_torch's names. Returns the embedding [embedding_size].
int AddOutput(GraphBuilder& builder, int x, ModelSpec::Output output, std::int64_t embedding_size,
              double dropout);

}  // namespace fr
