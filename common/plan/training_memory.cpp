#include "common/plan/training_memory.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "common/networks/fused_norms.h"
#include "common/networks/step_blocks.h"
#include "common/plan/heap_model.h"
#include "common/plan/value_sizes.h"

namespace fr {
namespace {

// The heap's gaps, and the threshold that decides what lies in it, are as they stay after two.
constexpr int kSteps = 3;

enum class StepKind { kNorm, kWeighted, kAdd, kAutograd };

struct SimulatedStep : StepNodes {
  StepKind kind = StepKind::kAutograd;
  int node = 0;  // whose operation it is
  std::vector<BufferPtr> kept;
};

struct SimulatedBlock : StepBlock {
  std::vector<BufferPtr> kept;
};

std::vector<SimulatedStep> StepsOf(const Graph& graph) {
  const std::map<int, NormNodes> norms = FuseNorms(graph);
  std::vector<SimulatedStep> steps;
  for (int i = 0; i <= graph.output(); ++i) {
    const Node& node = graph.node(i);
    SimulatedStep step{{node.inputs, i, node.block}, StepKind::kAutograd, i, {}};
    const auto norm = norms.find(i);
    if (norm != norms.end()) {
      const Node& batch_norm = graph.node(norm->second.norm);
      step = {{batch_norm.inputs, i, batch_norm.block}, StepKind::kNorm, norm->second.norm, {}};
      if (norm->second.residual) step.inputs.push_back(*norm->second.residual);
    } else if (node.op == Op::kConv || node.op == Op::kLinear) {
      step.kind = StepKind::kWeighted;
    } else if (node.op == Op::kAdd) {
      step.kind = StepKind::kAdd;
    } else if (node.op == Op::kInput || node.op == Op::kBatchNorm) {
      continue;
    }
    steps.push_back(std::move(step));
  }
  return steps;
}

// TrainingPlan, its steps and its tape, with buffers in place of tensors: who holds what, and for
// how long, is the same.
class SimulatedTraining {
 public:
  SimulatedTraining(const Graph& graph, const TrainingMemoryOptions& options, MemoryModel& model)
      : model_(model),
        graph_(graph),
        sizes_(ValueSizesOf(graph, options.images, options.precision, /*hides_tokens=*/true)),
        bf16_(options.precision == Precision::bf16),
        caller_has_images_(options.caller_has_images),
        steps_(StepsOf(graph)),
        uses_(graph.nodes().size(), 0),
        values_(graph.nodes().size()),
        gradients_(graph.nodes().size()) {
    for (const SimulatedStep& step : steps_) {
      for (const int input : step.inputs) ++uses_[static_cast<std::size_t>(input)];
    }
    if (!options.recompute) return;
    for (StepBlock& block : BlocksOf({steps_.begin(), steps_.end()})) {
      blocks_.push_back({std::move(block), {}});
    }
  }

  TrainingMemory Run() {
    TrainingMemory memory;
    for (int step = 0; step < kSteps; ++step) {
      drawn_.clear();
      Forward();
      memory.kept = model_.live();
      Backward();
    }
    memory.resident = model_.peak_resident();
    memory.weight_copies = WeightCopies();
    return memory;
  }

 private:
  BufferPtr& Value(int node) { return values_[static_cast<std::size_t>(node)]; }
  BufferPtr& Gradient(int node) { return gradients_[static_cast<std::size_t>(node)]; }
  std::int64_t Bytes(int node) const { return sizes_.bytes[static_cast<std::size_t>(node)]; }
  std::int64_t Elements(int node) const {
    return Bytes(node) / sizes_.element_size[static_cast<std::size_t>(node)];
  }
  BufferPtr New(int node) { return model_.New(Bytes(node)); }

  void Forward() {
    std::vector<int> uses = uses_;
    // The caller holds the images in float32 until the pass is over.
    const BufferPtr images = caller_has_images_ ? nullptr : model_.New(Elements(0) * 4);
    Value(0) = bf16_ && images ? New(0) : images;
    auto block = blocks_.begin();
    for (std::size_t i = 0; i < steps_.size(); ++i) {
      if (block != blocks_.end() && i == block->begin) {
        for (const int input : block->inputs) block->kept.push_back(Value(input));
      }
      StepForward(steps_[i], /*again=*/false, /*result_unused=*/false);
      for (const int input : steps_[i].inputs) {
        if (--uses[static_cast<std::size_t>(input)] == 0) Value(input).reset();
      }
      if (block != blocks_.end() && i + 1 == block->end) {
        for (std::size_t j = block->begin; j < block->end; ++j) steps_[j].kept.clear();
        ++block;
      }
    }
    Value(graph_.output()).reset();
  }

  void ForwardAgain(const SimulatedBlock& block) {
    for (std::size_t i = 0; i < block.inputs.size(); ++i) Value(block.inputs[i]) = block.kept[i];
    for (std::size_t i = block.begin; i < block.end; ++i) {
      StepForward(steps_[i], /*again=*/true, !block.read_within.contains(steps_[i].output));
    }
    for (const int input : block.inputs) Value(input).reset();
    for (std::size_t i = block.begin; i < block.end; ++i) Value(steps_[i].output).reset();
  }

  void Backward() {
    Gradient(graph_.output()) = New(graph_.output());
    auto block = blocks_.rbegin();
    for (std::size_t i = steps_.size(); i-- > 0;) {
      if (block != blocks_.rend() && i + 1 == block->end) {
        ForwardAgain(*block);
        block->kept.clear();
        ++block;
      }
      StepBackward(steps_[i]);
      steps_[i].kept.clear();
    }
  }

  // As a step wants its input: channels last. A slice of channels has to be copied for that.
  BufferPtr AsRows(int node) {
    return graph_.node(node).op == Op::kSlice ? New(node) : Value(node);
  }

  void StepForward(SimulatedStep& step, bool again, bool result_unused) {
    switch (step.kind) {
      case StepKind::kNorm:
      case StepKind::kWeighted:
        step.kept.push_back(AsRows(step.inputs[0]));
        if (again && result_unused) return;
        if (step.kind == StepKind::kWeighted) step.kept.push_back(ConvertedWeight(step));
        Value(step.output) = New(step.output);
        return;
      case StepKind::kAdd:
        if (!again || !result_unused) Value(step.output) = New(step.output);
        return;
      case StepKind::kAutograd:
        AutogradForward(step, again);
        return;
    }
  }

  // Weights of convolutions and linear layers are converted once for both passes.
  std::int64_t ConvertedBytes(const SimulatedStep& step) const {
    if (step.kind != StepKind::kWeighted) return 0;
    const bool narrow = sizes_.element_size[static_cast<std::size_t>(step.inputs[0])] == 2;
    const Node& node = graph_.node(step.node);
    return narrow && node.groups == 1 ? node.weight().numel() * 2 : 0;
  }
  BufferPtr ConvertedWeight(const SimulatedStep& step) {
    const std::int64_t bytes = ConvertedBytes(step);
    return bytes > 0 ? model_.New(bytes) : nullptr;
  }

  // All of them, or, where blocks forget theirs, those of the block that has most.
  std::int64_t WeightCopies() const {
    std::int64_t all = 0;
    for (const SimulatedStep& step : steps_) all += ConvertedBytes(step);
    std::int64_t in_blocks = 0;
    std::int64_t most = 0;
    for (const SimulatedBlock& block : blocks_) {
      std::int64_t bytes = 0;
      for (std::size_t i = block.begin; i < block.end; ++i) bytes += ConvertedBytes(steps_[i]);
      in_blocks += bytes;
      most = std::max(most, bytes);
    }
    return all - in_blocks + most;
  }

  // Autograd keeps inputs and result, and what the operation saves besides.
  void AutogradForward(SimulatedStep& step, bool again) {
    const Node& node = graph_.node(step.node);
    for (const int input : step.inputs) step.kept.push_back(Value(input));
    switch (node.op) {
      case Op::kSlice:
      case Op::kTokens:  // another view of the input
        Value(step.output) = Value(step.inputs[0]);
        break;
      case Op::kFlatten:
        // A feature map is put into [c, h, w] order, then into float32; tokens lie as they are.
        if (graph_.node(step.inputs[0]).shape.size() == 3) {
          const BufferPtr ordered = New(step.inputs[0]);
          Value(step.output) = bf16_ ? New(step.output) : ordered;
        } else {
          Value(step.output) = bf16_ ? New(step.output) : Value(step.inputs[0]);
        }
        break;
      case Op::kMaxPool:
        Value(step.output) = New(step.output);
        step.kept.push_back(model_.New(Elements(step.output) * 8));  // where each largest was
        break;
      case Op::kDropout:
        if (!again) drawn_.push_back(New(step.output));  // a factor for each value, for the step
        Value(step.output) = New(step.output);
        break;
      default:
        Value(step.output) = New(step.output);
    }
    step.kept.push_back(Value(step.output));
  }

  void StepBackward(SimulatedStep& step) {
    BufferPtr dy = std::move(Gradient(step.output));
    const int x = step.inputs[0];
    switch (step.kind) {
      case StepKind::kNorm: {
        BufferPtr other = std::move(Gradient(x));
        BufferPtr dx = other && other.use_count() == 1 ? other : New(x);
        other.reset();
        Gradient(x) = std::move(dx);
        if (step.inputs.size() > 1) AddGradient(step.inputs[1], std::move(dy));
        return;
      }
      case StepKind::kWeighted: {
        const BufferPtr dw = WeightGradient(step);
        if (x != 0) AddGradient(x, New(x));
        return;
      }
      case StepKind::kAdd: {
        BufferPtr second = graph_.node(step.node).factor == 1 ? dy : New(step.output);
        AddGradient(x, std::move(dy));
        AddGradient(step.inputs[1], std::move(second));
        return;
      }
      case StepKind::kAutograd:
        AutogradBackward(step, std::move(dy));
        return;
    }
  }

  // Products of float32 rows are summed where the gradient lies; the rest passes through a tensor
  // of its own.
  BufferPtr WeightGradient(const SimulatedStep& step) {
    const Node& node = graph_.node(step.node);
    const std::int64_t element = sizes_.element_size[static_cast<std::size_t>(step.inputs[0])];
    if (node.op == Op::kLinear && element == 4) return nullptr;
    return model_.New(node.weight().numel() * element);
  }

  void AutogradBackward(const SimulatedStep& step, BufferPtr dy) {
    const Node& node = graph_.node(step.node);
    std::vector<BufferPtr> passing;
    if (node.op == Op::kAttention) {
      // Gradients of queries, keys and values, then each within zeros for all three.
      passing.push_back(New(step.inputs[0]));
      passing.push_back(New(step.inputs[0]));
      passing.push_back(New(step.inputs[0]));
    }
    if (node.op == Op::kFlatten && bf16_) passing.push_back(model_.New(Bytes(step.output) / 2));
    std::vector<BufferPtr> found;
    for (const int input : step.inputs) {
      found.push_back(input == 0 || graph_.node(input).op == Op::kHideTokens ? nullptr
                                                                             : New(input));
    }
    passing.clear();
    dy.reset();
    for (std::size_t i = 0; i < found.size(); ++i) {
      if (found[i]) AddGradient(step.inputs[i], std::move(found[i]));
    }
  }

  void AddGradient(int node, BufferPtr gradient) {
    BufferPtr& sum = Gradient(node);
    if (!sum) {
      sum = std::move(gradient);
    } else if (sum.use_count() > 1) {
      sum = New(node);
    }
  }

  MemoryModel& model_;
  const Graph& graph_;
  ValueSizes sizes_;
  bool bf16_;
  bool caller_has_images_;
  std::vector<SimulatedStep> steps_;
  std::vector<SimulatedBlock> blocks_;
  std::vector<int> uses_;
  std::vector<BufferPtr> values_;
  std::vector<BufferPtr> gradients_;
  std::vector<BufferPtr> drawn_;
};

}  // namespace

TrainingMemory TrainingMemoryOf(const Graph& graph, const TrainingMemoryOptions& options) {
  HeapModel heap;
  return TrainingMemoryOf(graph, options, heap);
}

TrainingMemory TrainingMemoryOf(const Graph& graph, const TrainingMemoryOptions& options,
                                MemoryModel& model) {
  return SimulatedTraining(graph, options, model).Run();
}

}  // namespace fr
