#pragma once
// A network as data: what is computed, in which order, and under which names its parameters lie.
// Training, inference, export (ONNX, TorchScript), import, costs and checks all walk this one
// description. No LibTorch here.

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "common/networks/preprocessing.h"

namespace fr {

// What a node computes. Shapes are those of one sample: [c, h, w] for images and feature maps,
// [t, d] for t tokens of d values, [d] for vectors.
enum class Op {
  kInput,              // the image [3, 112, 112], normalised
  kConv,               // cross-correlation; parameters weight [out, in / groups, kh, kw], bias?
  kBatchNorm,          // over channels of [c, h, w] or [d]; parameters of torch.nn.BatchNorm
  kLayerNorm,          // over the last dimension; weight, bias
  kPRelu,              // weight [c]
  kRelu,               //
  kRelu6,              // min(max(x, 0), 6)
  kSigmoid,            //
  kAdd,                // inputs[0] + factor * inputs[1], of one shape
  kMultiply,           // inputs[0] [c, h, w] times inputs[1] [c, 1, 1]
  kConcat,             // of channels
  kSlice,              // channels [begin, end)
  kMaxPool,            //
  kAveragePool,        // the divisor counts the padding only if count_padding
  kGlobalAveragePool,  // [c, h, w] -> [c, 1, 1]
  kFlatten,            // [c, h, w] -> [c h w] in that order; [t, d] -> [t d]
  kDropout,            // of single values, with probability
  kLinear,             // over the last dimension; weight [out, in], bias?
  kTokens,             // [c, h, w] -> [h w, c]
  kAddPositions,       // x + weight; weight "<name>" [1, t, d]
  kAttention,          // multi-head attention core: [t, 3 d] of queries, keys, values -> [t, d]
  kDropPath,           // stochastic depth: whole samples with probability, the rest scaled up
  kHideTokens,         // training: a random share of tokens is left out; else nothing
  kRestoreTokens,      // inputs {x, the kHideTokens node}: learnt tokens stand for those left out;
                       // weight "<name>" [1, 1, d]
};

// "conv", "batch_norm", ...
const char* OpName(Op op);

// How a parameter starts; parameters are drawn in graph order.
struct Init {
  enum class Kind {
    kConstant,         // value
    kNormal,           // standard deviation value
    kTruncatedNormal,  // standard deviation value, cut at +-2 (timm's trunc_normal_)
    kUniform,          // within +-value
  };
  Kind kind = Kind::kConstant;
  double value = 0;
};

// A tensor of the network's state, float32 unless it counts.
struct Parameter {
  enum class Role {
    kTrained,
    kFixed,    // part of the state, but never changed (a scale that stays 1)
    kRunning,  // statistics of batches: running_mean, running_var
    kCounter,  // num_batches_tracked, int64 scalar
  };
  std::string name;  // as in a PyTorch state dict
  std::vector<std::int64_t> shape;
  Role role = Role::kTrained;
  Init init;
  std::int64_t numel() const;
};

struct Window {
  std::array<std::int64_t, 2> kernel = {1, 1};  // height, width
  std::array<std::int64_t, 2> stride = {1, 1};
  std::array<std::int64_t, 2> padding = {0, 0};
};

// One value of the network and how it comes about. Only the fields of its op mean something.
struct Node {
  Op op = Op::kInput;
  std::string name;                   // of the module, e.g. "layer1.0.conv1"; unique
  std::vector<int> inputs;            // indices of earlier nodes
  std::vector<std::int64_t> shape;    // of the result, without the batch
  std::vector<Parameter> parameters;  // in the order of the op's list above
  Window window;                      // kConv, kMaxPool, kAveragePool
  std::int64_t groups = 1;            // kConv
  double epsilon = 0;                 // kBatchNorm, kLayerNorm
  double factor = 1;                  // kAdd
  double probability = 0;             // kDropout, kDropPath, kHideTokens: share left out
  std::int64_t begin = 0;             // kSlice
  std::int64_t end = 0;               // kSlice
  std::int64_t heads = 1;             // kAttention
  bool ceil_mode = false;             // kMaxPool, kAveragePool: a part of a window counts as one
  bool count_padding = true;          // kAveragePool
  int block = 0;                      // with `recompute`, a block's inner values are computed twice

  bool has_bias() const;  // kConv, kLinear
  const Parameter& weight() const { return parameters.front(); }
};

// Nodes in an order in which they can be computed; the last one is the embedding [d].
class Graph {
 public:
  const std::vector<Node>& nodes() const { return nodes_; }
  const Node& node(int index) const { return nodes_[static_cast<std::size_t>(index)]; }
  int output() const { return static_cast<int>(nodes_.size()) - 1; }
  std::int64_t embedding_size() const { return nodes_.back().shape.front(); }

  // Every parameter, in graph order.
  std::vector<Parameter> Parameters() const;
  // How often each node's value is used by others.
  std::vector<int> UseCounts() const;

 private:
  friend class GraphBuilder;
  std::vector<Node> nodes_;
};

// What a convolution is made of; `padding` on both sides.
struct ConvSpec {
  std::int64_t out = 0;
  std::array<std::int64_t, 2> kernel = {1, 1};
  std::int64_t stride = 1;
  std::array<std::int64_t, 2> padding = {0, 0};
  std::int64_t groups = 1;
  bool bias = false;
};

struct PoolSpec {
  std::int64_t kernel = 2;
  std::int64_t stride = 2;
  std::int64_t padding = 0;
  bool ceil_mode = false;
  bool count_padding = true;
};

// How the weights of convolutions and linear layers start. As torch counts: [out, in / groups, kh,
// kw] has fan in `in / groups kh kw` and fan out `out kh kw`.
struct WeightInit {
  enum class Kind {
    kTorch,            // uniform within +-1 / sqrt(fan in), bias, too: torch.nn.Conv2d and Linear
    kNormal,           // standard deviation `value`; bias as kTorch
    kTruncatedNormal,  // standard deviation `value`; bias 0
    kKaimingFanOut,    // normal, standard deviation sqrt(2 / fan out); bias 0
    kKaimingFanIn,     // normal, standard deviation sqrt(2 / fan in); bias 0
    kUniformFanIn,     // uniform within +-sqrt(value / fan in); bias 0: MXNet's Xavier
  };
  Kind kind = Kind::kTorch;
  double value = 0;
};

// Writes a graph, node after node. Every method returns the new node's index and infers its shape;
// what does not fit (channels, groups, a window larger than its input) throws
// Error(kInvalidArgument) with the node's name. A module without parameters of its own may have any
// unique name: it is what traces and exports show.
class GraphBuilder {
 public:
  explicit GraphBuilder(std::array<std::int64_t, 3> image = {3, kImageSide, kImageSide});

  int input() const { return 0; }
  const std::vector<std::int64_t>& shape(int x) const;
  std::int64_t channels(int x) const { return shape(x).front(); }

  // How the weights of layers added from now on start; torch's own way before.
  void set_conv_init(WeightInit init) { conv_init_ = init; }
  void set_linear_init(WeightInit init) { linear_init_ = init; }
  // eps of the batch norms added from now on; 1e-5 before.
  void set_batch_norm_epsilon(double epsilon) { batch_norm_epsilon_ = epsilon; }
  // What follows, up to the next call, is one block of `recompute`.
  void BeginBlock() { ++block_; }

  int Conv(const std::string& name, int x, const ConvSpec& spec);
  // `fixed_weight`: the scale stays 1 (InsightFace's last layer, MXNet's fix_gamma).
  int BatchNorm(const std::string& name, int x, bool fixed_weight = false);
  int LayerNorm(const std::string& name, int x, double epsilon = 1e-5);
  int PRelu(const std::string& name, int x);
  int Relu(const std::string& name, int x);
  int Relu6(const std::string& name, int x);
  int Sigmoid(const std::string& name, int x);
  int Add(const std::string& name, int a, int b, double factor = 1);
  int Multiply(const std::string& name, int x, int gate);
  int Concat(const std::string& name, const std::vector<int>& inputs);
  int Slice(const std::string& name, int x, std::int64_t begin, std::int64_t end);
  int MaxPool(const std::string& name, int x, const PoolSpec& spec);
  int AveragePool(const std::string& name, int x, const PoolSpec& spec);
  int GlobalAveragePool(const std::string& name, int x);
  int Flatten(const std::string& name, int x);
  // With probability 0, of nothing: returns x.
  int Dropout(const std::string& name, int x, double probability);
  int Linear(const std::string& name, int x, std::int64_t out, bool bias);
  int Tokens(const std::string& name, int x);
  int AddPositions(const std::string& name, int x, Init init);
  int Attention(const std::string& name, int qkv, std::int64_t heads);
  int DropPath(const std::string& name, int x, double probability);
  int HideTokens(const std::string& name, int x, double probability);
  int RestoreTokens(const std::string& name, int x, int hidden, Init init);

  // The last node is the embedding. Throws Error(kInternal) if it is no vector or a name is used
  // twice.
  Graph Finish();

 private:
  Node& Append(Op op, const std::string& name, std::vector<int> inputs,
               std::vector<std::int64_t> shape);
  int Last() const { return static_cast<int>(graph_.nodes_.size()) - 1; }
  int Pointwise(Op op, const std::string& name, int x);
  int Pool(Op op, const std::string& name, int x, const PoolSpec& spec);
  void RequireMap(const std::string& name, int x) const;     // [c, h, w]
  void RequireTokens(const std::string& name, int x) const;  // [t, d]
  [[noreturn]] static void Fail(const std::string& name, const std::string& what);

  Graph graph_;
  WeightInit conv_init_;
  WeightInit linear_init_;
  double batch_norm_epsilon_ = 1e-5;
  int block_ = 0;
};

}  // namespace fr
