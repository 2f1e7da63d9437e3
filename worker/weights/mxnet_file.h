#pragma once
// Models of MXNet 0.x and 1.x: PREFIX-symbol.json (the graph) and PREFIX-NNNN.params (its tensors).

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "worker/weights/host_tensor.h"

namespace fr {

// The tensors of a .params file under the names they have there: "arg:conv0_weight",
// "aux:bn0_moving_mean". Dense tensors in any of the format's four versions; they refer to the
// mapped file. Throws Error(kNotFound), Error(kIo), and Error(kDataLoss) for damaged files, sparse
// tensors, unknown types and MXNet 2's zip files.
HostTensors ReadMxnetParams(const std::filesystem::path& path);

// Output `output` of nodes[node].
struct MxnetEntry {
  std::size_t node = 0;
  std::size_t output = 0;
};

struct MxnetNode {
  std::string op;  // "null" for the input and for parameters
  std::string name;
  std::map<std::string, std::string> attributes;  // "kernel": "(3, 3)"
  std::vector<MxnetEntry> inputs;                 // earlier nodes
};

struct MxnetSymbol {
  std::vector<MxnetNode> nodes;
  std::vector<MxnetEntry> heads;
};

// Throws Error(kNotFound), Error(kIo), and Error(kDataLoss) for what is no symbol, or has inputs
// that do not come before the node that takes them.
MxnetSymbol ReadMxnetSymbol(const std::filesystem::path& path);

}  // namespace fr
