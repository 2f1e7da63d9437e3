#include "worker/backbones/run/training_plan.h"

#include <algorithm>
#include <set>
#include <utility>

#include "worker/backbones/run/steps.h"

namespace fr {

// Steps [begin, end) of one block, and what they read that others computed.
struct TrainingPlan::Block {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::vector<int> inputs;
  std::set<int> read_within;
  std::vector<at::Tensor> kept;  // the inputs' values, between the passes
};

TrainingPlan::TrainingPlan(const Graph& graph, const NetworkState& state,
                           const TrainingOptions& options)
    : graph_(graph),
      options_(options),
      uses_(graph.nodes().size(), 0),
      tape_(graph.nodes().size()) {
  MakeSteps(graph, state);
  for (const auto& step : steps_) {
    for (const int input : step->inputs()) ++uses_[static_cast<std::size_t>(input)];
  }
  if (options_.recompute) MakeBlocks();
}

TrainingPlan::~TrainingPlan() = default;

void TrainingPlan::MakeSteps(const Graph& graph, const NetworkState& state) {
  const std::map<int, NormNodes> norms = FuseNorms(graph);
  for (int i = 0; i <= graph.output(); ++i) {
    const auto norm = norms.find(i);
    if (norm != norms.end()) {
      steps_.push_back(MakeNormStep(graph, norm->second, state, options_.batch_norm_comm));
      continue;
    }
    switch (graph.node(i).op) {
      case Op::kInput:
      case Op::kBatchNorm:  // within another step: its own value never comes to be
        break;
      case Op::kConv:
        steps_.push_back(MakeConvStep(graph, i, state));
        break;
      case Op::kLinear:
        steps_.push_back(MakeLinearStep(graph, i, state));
        break;
      case Op::kAdd:
        steps_.push_back(MakeAddStep(graph, i));
        break;
      default:
        steps_.push_back(MakeAutogradStep(graph, i, state));
    }
  }
}

void TrainingPlan::MakeBlocks() {
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    if (i == 0 || steps_[i]->block() != steps_[i - 1]->block()) {
      blocks_.emplace_back();
      blocks_.back().begin = i;
    }
    blocks_.back().end = i + 1;
  }
  for (Block& block : blocks_) {
    std::set<int> own;
    std::set<int> outer;
    for (std::size_t i = block.begin; i < block.end; ++i) {
      for (const int input : steps_[i]->inputs()) {
        (own.contains(input) ? block.read_within : outer).insert(input);
      }
      own.insert(steps_[i]->output());
    }
    block.inputs.assign(outer.begin(), outer.end());
  }
}

PassMode TrainingPlan::Mode() {
  PassMode mode;
  mode.compute.training = true;
  mode.compute.randomness = options_.randomness;
  mode.compute.drawn = &drawn_;
  return mode;
}

at::Tensor TrainingPlan::Forward(const at::Tensor& images) {
  const torch::NoGradGuard no_grad;
  drawn_.clear();
  std::vector<int> uses = uses_;
  tape_.value(0) = images.to(options_.precision).contiguous(torch::MemoryFormat::ChannelsLast);
  auto block = blocks_.begin();
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    if (block != blocks_.end() && i == block->begin) {
      block->kept.clear();
      for (const int input : block->inputs) block->kept.push_back(tape_.value(input));
    }
    Step& step = *steps_[i];
    step.Forward(tape_, Mode());
    for (const int input : step.inputs()) {
      if (--uses[static_cast<std::size_t>(input)] == 0) tape_.value(input).reset();
    }
    if (block != blocks_.end() && i + 1 == block->end) {
      for (std::size_t j = block->begin; j < block->end; ++j) steps_[j]->Forget();
      ++block;
    }
  }
  return std::exchange(tape_.value(graph_.output()), at::Tensor()).to(torch::kFloat32);
}

void TrainingPlan::ForwardAgain(const Block& block) {
  for (std::size_t i = 0; i < block.inputs.size(); ++i) {
    tape_.value(block.inputs[i]) = block.kept[i];
  }
  PassMode mode = Mode();
  mode.again = true;
  for (std::size_t i = block.begin; i < block.end; ++i) {
    mode.result_unused = !block.read_within.contains(steps_[i]->output());
    steps_[i]->Forward(tape_, mode);
  }
  for (const int input : block.inputs) tape_.value(input).reset();
  for (std::size_t i = block.begin; i < block.end; ++i) tape_.value(steps_[i]->output()).reset();
}

void TrainingPlan::Backward(const at::Tensor& embedding_gradients) {
  const torch::NoGradGuard no_grad;
  tape_.AddGradient(graph_.output(), embedding_gradients);
  auto block = blocks_.rbegin();
  for (std::size_t i = steps_.size(); i-- > 0;) {
    if (block != blocks_.rend() && i + 1 == block->end) {
      ForwardAgain(*block);
      block->kept.clear();
      ++block;
    }
    steps_[i]->Backward(tape_);
  }
}

}  // namespace fr
