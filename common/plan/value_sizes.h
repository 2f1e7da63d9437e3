#pragma once
// How many bytes each node's value takes, by the precision of the pass that makes it.

#include <cstdint>
#include <vector>

#include "common/networks/graph.h"
#include "proto/job.pb.h"

namespace fr {

struct ValueSizes {
  std::vector<std::int64_t> bytes;         // of a node's value, all images
  std::vector<std::int64_t> element_size;  // 2 or 4: behind kFlatten everything is float32
};

// `hides_tokens`: between kHideTokens and kRestoreTokens there are only the tokens that stay, as in
// training.
ValueSizes ValueSizesOf(const Graph& graph, std::int64_t images, Precision precision,
                        bool hides_tokens);

}  // namespace fr
