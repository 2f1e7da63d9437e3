#pragma once
// A network as training runs it: nodes fused where that saves passes over memory, gradients by the
// chain rule from step to step.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <torch/torch.h>

#include "common/networks/graph.h"
#include "worker/backbones/run/network_state.h"
#include "worker/backbones/run/tape.h"

namespace fr {

class Communicator;

struct TrainingOptions {
  // Of activations and of the products of convolutions and linear layers before kFlatten: float32
  // or bfloat16. Parameters, their gradients, sums and statistics are float32 or better.
  at::ScalarType precision = at::kFloat;
  // Between the passes only the blocks' ends are kept; the rest is computed a second time.
  bool recompute = false;
  // Not null: batch-norm layers take their statistics over all ranks; Forward and Backward are then
  // collective. Not owned.
  Communicator* batch_norm_comm = nullptr;
  bool randomness = true;  // dropout, drop path, hidden tokens
  // On a GPU: the passes become graphs (recorded_passes.h), the backward one in parts of at least
  // so many finished gradients; 0: none.
  std::int64_t graph_elements = std::int64_t{25} << 18;
};

// Elements [begin, end) of the flat gradients.
struct FlatRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

// Told that elements [begin, end) of the flat gradients (FlatParameters) are final.
using GradientsReady = std::function<void(std::int64_t begin, std::int64_t end)>;

class TrainingPlan {
 public:
  // `graph` and `state` outlive the plan.
  TrainingPlan(const Graph& graph, const NetworkState& state, const TrainingOptions& options);
  ~TrainingPlan();

  // images [n, 3, h, w] float32 -> embeddings [n, d] float32. Updates the running statistics and
  // keeps what Backward needs.
  at::Tensor Forward(const at::Tensor& images, const Draws& draws = {});

  // Adds to the gradients of `state`'s trained parameters, given those of the latest embeddings
  // [n, d] float32. Once after each Forward. On the way `ready` (may be empty) is told, of every
  // trained element once, that this pass changes its gradient no more; mostly from back to front,
  // in the same order on every rank.
  void Backward(const at::Tensor& embedding_gradients, const GradientsReady& ready = {});

  // The same pass in parts: steps [begin, end) of num_steps(), the last part first, each part once.
  // Gradients that no step has are announced with the part that begins at 0.
  void BackwardSteps(const at::Tensor& embedding_gradients, std::size_t begin, std::size_t end,
                     const GradientsReady& ready);
  std::size_t num_steps() const { return steps_.size(); }
  // Of the flat gradients, those that are final after this step's backward pass.
  std::int64_t ElementsFinalAfter(std::size_t step) const;

  // Whether a pass gives a GPU the same work in every step: nothing is drawn at random, and no
  // other rank is waited for.
  bool CanBeRecorded() const;
  // Forgets a pass that was begun and will not be ended.
  void Abandon();

  // For a step that had an infinite or NaN value: where the first one appeared. Looks at the
  // weights and at `images`, then runs the step again and looks at every value and, if
  // `embedding_gradients` is defined, at every value's and every weight's gradient on the way back.
  // The answers are FiniteCheck's; none: all is finite. `draws` are those of the images' Forward.
  // Weights, their gradients so far and running statistics stay what they are; a Backward needs a
  // Forward of its own afterwards. Collective if batch norm is of all ranks: each then answers for
  // its own images.
  std::optional<std::string> FindNonFinite(const at::Tensor& images,
                                           const at::Tensor& embedding_gradients,
                                           const Draws& draws = {});

 private:
  struct Block;

  void MakeSteps(const Graph& graph, const NetworkState& state);
  // The step that is made next uses the node's parameters.
  void Own(const Node& node);
  void FindLastUses(const FlatParameters& parameters);
  void MakeBlocks();
  at::Tensor RunForward(const at::Tensor& images, const PassMode& mode,
                        const std::function<void(const Step&)>& after_step);
  void PrepareBackward(std::size_t step);
  void ForwardAgain(const Block& block);
  PassMode Mode();

  const Graph& graph_;
  const NetworkState& state_;
  TrainingOptions options_;
  std::vector<std::unique_ptr<Step>> steps_;
  std::vector<Block> blocks_;                     // of `recompute`
  std::map<std::string, std::size_t> first_use_;  // of a parameter, by name: the first of steps_
  // What is final after each step's backward pass, the last element what no step has.
  std::vector<std::vector<FlatRange>> final_after_;
  std::vector<int> uses_;  // of each node's value, by steps
  std::map<std::string, at::Tensor> drawn_;
  Draws draws_;
  Tape tape_;
};

}  // namespace fr
