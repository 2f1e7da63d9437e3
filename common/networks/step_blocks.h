#pragma once
// A training step's passes by blocks, for `model.recompute`: between the passes only what a block
// reads from others is kept. The engine runs what is said here, the planner predicts its memory.

#include <cstddef>
#include <set>
#include <vector>

namespace fr {

// One or several fused nodes that are computed together; values by node index.
struct StepNodes {
  std::vector<int> inputs;
  int output = 0;
  int block = 0;  // Node::block
};

// Steps [begin, end).
struct StepBlock {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::vector<int> inputs;    // read here, computed before
  std::set<int> read_within;  // computed and read here
};

// Neighbours with the same block number together, in the order of `steps`.
std::vector<StepBlock> BlocksOf(const std::vector<StepNodes>& steps);

}  // namespace fr
