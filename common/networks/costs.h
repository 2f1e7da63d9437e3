#pragma once
// What a network costs: parameters, multiply-adds and activations, from its graph alone.

#include <cstdint>
#include <vector>

#include "common/networks/graph.h"

namespace fr {

// Of one image. A multiply-add ("MAC") is one product with its addition, in convolutions, linear
// layers and the two products of attention; biases, batch norms, activations, pooling and sums of
// maps count nothing. torch's flop counter counts so (two for one), and torchvision's "GFLOPS" are
// these; thop, fvcore and ptflops add two for each value of a batch norm, which makes a percent.
struct Costs {
  std::int64_t trained_parameters = 0;  // values that a step changes
  std::int64_t parameters = 0;          // and those fixed: what torch's parameters() counts
  std::int64_t multiply_adds = 0;
  // Values of all nodes that make new ones, the image with them. Flatten, slices and tokens only
  // see their input in another way.
  std::int64_t activations = 0;

  struct OfNode {
    std::int64_t parameters = 0;
    std::int64_t multiply_adds = 0;
    std::int64_t activations = 0;
  };
  std::vector<OfNode> nodes;  // as in the graph
};

Costs CostsOf(const Graph& graph);

}  // namespace fr
