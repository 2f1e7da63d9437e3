#pragma once

#include "common/networks/graph.h"

namespace fr {

// image [3, 8, 8] -> conv to 4 channels -> batch norm and activation -> flattened -> 2 values:
// small enough to count.
inline Graph SmallNetwork() {
  GraphBuilder b({3, 8, 8});
  int x = b.Conv("conv", b.input(), {.out = 4, .kernel = {3, 3}, .padding = {1, 1}});
  x = b.PRelu("act", b.BatchNorm("bn", x));
  b.Linear("fc", b.Flatten("flat", x), 2, /*bias=*/true);
  return b.Finish();
}

}  // namespace fr
