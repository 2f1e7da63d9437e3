#pragma once
// From the last feature map to the embedding: the ways that InsightFace knows.

#include <cstdint>
#include <string>

#include "common/networks/graph.h"
#include "proto/job.pb.h"

namespace fr {

// Adds to `x` [c, h, w] the layers bn2, fc and features (GDC: gdc, gdc_bn, fc, features), by
// arcface_torch's names with `prefix` before them: timm and torchvision call other parts
// "features", too. Returns the embedding [embedding_size]. Throws Error(kInvalidArgument) for a
// dropout that the output does not have.
int AddOutput(GraphBuilder& builder, int x, ModelSpec::Output output, std::int64_t embedding_size,
              double dropout, const std::string& prefix = "");

// For outputs other than E: throws Error(kInvalidArgument) unless `dropout` is 0.
void RefuseDropout(double dropout);

}  // namespace fr
