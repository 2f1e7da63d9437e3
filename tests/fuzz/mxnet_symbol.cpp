// Symbols of MXNet, and the graph that they become.

#include "tests/fuzz/fuzz.h"
#include "worker/weights/foreign_graph.h"
#include "worker/weights/mxnet_file.h"

FR_FUZZ_TARGET(bytes) {
  const fr::MemoryFile file(bytes);
  fr::FromMxnet(fr::ReadMxnetSymbol(file.path()), {});
}
