#pragma once
// A network that another framework wrote, in one language for all of them.

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/networks/preprocessing.h"
#include "worker/weights/host_tensor.h"
#include "worker/weights/mxnet_file.h"
#include "worker/weights/onnx_file.h"

namespace fr {

// What a node computes; in brackets the tensors it has.
enum class ForeignOp {
  kInput,
  kConv,         // [weight, bias?]
  kBatchNorm,    // [weight, bias, running_mean, running_var]; MXNet's fix_gamma: weight is ones
  kPRelu,        // [slope]
  kRelu,         //
  kClip,         // clip_min, clip_max
  kSigmoid,      //
  kAdd,          // of two inputs, or of one and [constant]
  kMultiply,     // of two inputs, or of one and [constant]
  kSubtract,     // of two inputs, or of one and [constant]
  kConcat,       // axis
  kSlice,        // axis; [begin, end), or `part` of `parts` equal ones
  kMaxPool,      //
  kAveragePool,  //
  kGlobalAveragePool,  // with the two dimensions kept or not
  kFlatten,            // all but the batch become one dimension, or back where they have size one
  kIdentity,           // dropout, casts
  kLinear,             // [weight (out, in), bias?], of the flattened input
  kLayerNorm,          // [weight, bias]
  kSoftmax,            // axis
  kTranspose,          // permutation
  kOther,              // anything else, or one of the above in a way that has no place here
};

// "Conv", "BatchNorm", ...
const char* ForeignOpName(ForeignOp op);

struct ForeignNode {
  ForeignOp op = ForeignOp::kOther;
  std::string name;         // theirs: of the node, or of its output if it has none
  std::string foreign_op;   // "Convolution"; for kOther with the reason: "Conv with auto_pad VALID"
  std::vector<int> inputs;  // earlier nodes
  std::map<std::string, HostTensor> tensors;  // by role, see ForeignOp

  // kConv, kMaxPool, kAveragePool; height, width.
  std::array<std::int64_t, 2> kernel = {1, 1};
  std::array<std::int64_t, 2> stride = {1, 1};
  std::array<std::int64_t, 2> pad_begin = {0, 0};
  std::array<std::int64_t, 2> pad_end = {0, 0};
  std::array<std::int64_t, 2> dilation = {1, 1};
  std::int64_t groups = 1;                // kConv
  bool ceil_mode = false;                 // pools: a part of a window counts as one
  bool count_padding = true;              // kAveragePool
  double epsilon = 0;                     // kBatchNorm, kLayerNorm
  double clip_min = 0;                    // kClip
  double clip_max = 0;                    //
  std::int64_t axis = 1;                  // kConcat, kSlice, kSoftmax, kLayerNorm
  std::int64_t begin = 0;                 // kSlice
  std::int64_t end = 0;                   //
  std::int64_t part = 0;                  // kSlice with parts > 0
  std::int64_t parts = 0;                 //
  std::vector<std::int64_t> permutation;  // kTranspose
  bool constant_first = false;            // kSubtract: constant - input

  // nullptr if it has none of that role.
  const HostTensor* tensor(const std::string& role) const;
};

// Nodes after those whose values they take; not every one is needed for the output.
struct ForeignGraph {
  std::vector<ForeignNode> nodes;
  int output = 0;  // the embedding, before any normalisation
  // What its own first nodes do with pixels 0..255; these are kIdentity. Nothing if it has none.
  std::optional<Preprocessing> preprocessing;

  const ForeignNode& node(int index) const { return nodes[static_cast<std::size_t>(index)]; }
};

// The embedding is the node "fc1", as InsightFace calls it, else the last head; what only a loss
// needs is left out. Throws Error(kInvalidArgument) if the parameters lack one that the symbol
// needs, or attributes make no sense, naming the node.
ForeignGraph FromMxnet(const MxnetSymbol& symbol, const HostTensors& params);

// Throws Error(kInvalidArgument) for models with several inputs or outputs, Error(kDataLoss) for
// values that come from nowhere and malformed attributes, naming the node.
ForeignGraph FromOnnx(const OnnxModel& model);

}  // namespace fr
