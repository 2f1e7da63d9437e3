#include "common/networks/step_blocks.h"

namespace fr {

std::vector<StepBlock> BlocksOf(const std::vector<StepNodes>& steps) {
  std::vector<StepBlock> blocks;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    if (i == 0 || steps[i].block != steps[i - 1].block) {
      blocks.emplace_back();
      blocks.back().begin = i;
    }
    blocks.back().end = i + 1;
  }
  for (StepBlock& block : blocks) {
    std::set<int> own;
    std::set<int> outer;
    for (std::size_t i = block.begin; i < block.end; ++i) {
      for (const int input : steps[i].inputs) {
        (own.contains(input) ? block.read_within : outer).insert(input);
      }
      own.insert(steps[i].output);
    }
    block.inputs.assign(outer.begin(), outer.end());
  }
  return blocks;
}

}  // namespace fr
