#pragma once
// The comparison of structures behind MatchForeignGraph.

#include <vector>

#include "common/networks/graph.h"
#include "worker/weights/foreign_graph.h"

namespace fr {

// For each node of ours the node of theirs that computes the same.
struct StructureMatch {
  // Index in theirs.nodes; -1 for what is passed over (dropout, flattening) and for folded batch
  // norms.
  std::vector<int> theirs;
  // A batch norm of ours that theirs folded into the layer before: its bias is that layer's.
  std::vector<bool> folded;
};

// Throws Error(kInvalidArgument), see MatchForeignGraph. Every matched node of theirs has the
// tensors that ours needs, of shapes with as many elements.
StructureMatch MatchStructure(const Graph& ours, const ForeignGraph& theirs);

// The nearest node at or before `index` that is not passed over.
int SkipOurs(const Graph& ours, int index);

}  // namespace fr
