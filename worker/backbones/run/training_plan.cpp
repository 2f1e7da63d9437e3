#include "worker/backbones/run/training_plan.h"

#include <algorithm>
#include <utility>

#include "common/networks/fused_norms.h"
#include "common/networks/step_blocks.h"
#include "worker/backbones/run/finite_check.h"
#include "worker/backbones/run/steps.h"

namespace fr {

struct TrainingPlan::Block : StepBlock {
  std::vector<at::Tensor> kept;  // the inputs' values, between the passes
};

TrainingPlan::TrainingPlan(const Graph& graph, const NetworkState& state,
                           const TrainingOptions& options)
    : graph_(graph),
      state_(state),
      options_(options),
      uses_(graph.nodes().size(), 0),
      tape_(graph.nodes().size()) {
  MakeSteps(graph, state);
  for (const auto& step : steps_) {
    for (const int input : step->inputs()) ++uses_[static_cast<std::size_t>(input)];
  }
  if (options_.recompute) MakeBlocks();
  FindLastUses(state.trained());
}

TrainingPlan::~TrainingPlan() = default;

void TrainingPlan::MakeSteps(const Graph& graph, const NetworkState& state) {
  const std::map<int, NormNodes> norms = FuseNorms(graph);
  for (int i = 0; i <= graph.output(); ++i) {
    const auto norm = norms.find(i);
    if (norm != norms.end()) {
      Own(graph.node(norm->second.norm));
      if (norm->second.activation) Own(graph.node(*norm->second.activation));
      steps_.push_back(MakeNormStep(graph, norm->second, state, options_.batch_norm_comm));
      continue;
    }
    if (graph.node(i).op != Op::kBatchNorm) Own(graph.node(i));
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

void TrainingPlan::Own(const Node& node) {
  for (const Parameter& parameter : node.parameters) {
    first_use_.emplace(parameter.name, steps_.size());
  }
}

// Backward passes run from the last step to the first: a gradient is final after the first step
// that uses its parameter.
void TrainingPlan::FindLastUses(const FlatParameters& parameters) {
  final_after_.resize(steps_.size() + 1);
  for (const FlatParameters::Entry& entry : parameters.entries()) {
    const auto use = first_use_.find(entry.name);
    auto& ranges = final_after_[use == first_use_.end() ? steps_.size() : use->second];
    const std::int64_t end = entry.offset + c10::multiply_integers(entry.sizes);
    if (!ranges.empty() && ranges.back().end == entry.offset) {
      ranges.back().end = end;
    } else {
      ranges.push_back({entry.offset, end});
    }
  }
}

void TrainingPlan::MakeBlocks() {
  std::vector<StepNodes> steps;
  for (const auto& step : steps_) steps.push_back({step->inputs(), step->output(), step->block()});
  for (StepBlock& block : BlocksOf(steps)) blocks_.push_back({std::move(block), {}});
}

PassMode TrainingPlan::Mode() {
  PassMode mode;
  mode.compute.training = true;
  mode.compute.randomness = options_.randomness;
  mode.compute.drawn = &drawn_;
  mode.compute.draws = draws_;
  return mode;
}

at::Tensor TrainingPlan::Forward(const at::Tensor& images, const Draws& draws) {
  drawn_.clear();
  draws_ = draws;
  return RunForward(images, Mode(), [](const Step&) {});
}

at::Tensor TrainingPlan::RunForward(const at::Tensor& images, const PassMode& mode,
                                    const std::function<void(const Step&)>& after_step) {
  const torch::NoGradGuard no_grad;
  std::vector<int> uses = uses_;
  tape_.value(0) = images.to(options_.precision).contiguous(torch::MemoryFormat::ChannelsLast);
  auto block = blocks_.begin();
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    if (block != blocks_.end() && i == block->begin) {
      block->kept.clear();
      for (const int input : block->inputs) block->kept.push_back(tape_.value(input));
    }
    Step& step = *steps_[i];
    step.Forward(tape_, mode);
    after_step(step);
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

// At a block's last step, which is the first on the way back: its values come to be again.
void TrainingPlan::PrepareBackward(std::size_t step) {
  const auto block = std::find_if(blocks_.begin(), blocks_.end(),
                                  [&](const Block& b) { return b.end == step + 1; });
  if (block == blocks_.end()) return;
  ForwardAgain(*block);
  block->kept.clear();
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

void TrainingPlan::Backward(const at::Tensor& embedding_gradients, const GradientsReady& ready) {
  BackwardSteps(embedding_gradients, 0, steps_.size(), ready);
}

void TrainingPlan::BackwardSteps(const at::Tensor& embedding_gradients, std::size_t begin,
                                 std::size_t end, const GradientsReady& ready) {
  const auto announce = [&](std::size_t step) {
    if (!ready) return;
    for (const FlatRange& range : final_after_[step]) ready(range.begin, range.end);
  };
  const torch::NoGradGuard no_grad;
  if (end == steps_.size()) tape_.AddGradient(graph_.output(), embedding_gradients);
  for (std::size_t i = end; i-- > begin;) {
    PrepareBackward(i);
    steps_[i]->Backward(tape_);
    announce(i);
  }
  if (begin == 0) announce(steps_.size());
}

std::int64_t TrainingPlan::ElementsFinalAfter(std::size_t step) const {
  std::int64_t elements = 0;
  for (const FlatRange& range : final_after_[step]) elements += range.end - range.begin;
  return elements;
}

bool TrainingPlan::CanBeRecorded() const {
  if (options_.batch_norm_comm != nullptr) return false;
  return !options_.randomness ||
         std::none_of(graph_.nodes().begin(), graph_.nodes().end(),
                      [](const Node& node) { return node.probability > 0; });
}

void TrainingPlan::Abandon() {
  for (Block& block : blocks_) block.kept.clear();
  for (const auto& step : steps_) step->Forget();
  tape_ = Tape(graph_.nodes().size());
}

std::optional<std::string> TrainingPlan::FindNonFinite(const at::Tensor& images,
                                                       const at::Tensor& embedding_gradients,
                                                       const Draws& draws) {
  const torch::NoGradGuard no_grad;
  drawn_.clear();
  draws_ = draws;
  FiniteCheck check(graph_, state_);
  check.Weights();
  check.Images(images);
  PassMode mode = Mode();
  mode.trial = true;
  // To the end even when it is found: other ranks may go on, and wait for this one's sums.
  RunForward(images, mode,
             [&](const Step& step) { check.Value(step.output(), tape_.value(step.output())); });
  if (embedding_gradients.defined()) {
    const at::Tensor& gradients = state_.trained().gradients();
    const at::Tensor before = gradients.clone();
    gradients.zero_();
    std::vector<std::vector<std::string>> parameters(steps_.size());
    for (const auto& [name, step] : first_use_) parameters[step].push_back(name);
    tape_.AddGradient(graph_.output(), embedding_gradients);
    for (std::size_t i = steps_.size(); i-- > 0;) {
      PrepareBackward(i);
      check.Gradient(steps_[i]->output(), tape_.gradient(steps_[i]->output()));
      steps_[i]->Backward(tape_);
      for (const std::string& name : parameters[i]) check.ParameterGradient(name);
    }
    gradients.copy_(before);
  }
  Abandon();
  return check.first();
}

}  // namespace fr
